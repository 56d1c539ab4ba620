//! A sample made up on the spot: a year of bicycle hires, one file a month, of very different sizes. The same seed gives
//! the same bytes.

use std::{fs, io, io::Write, path::Path};

/// What was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Sum of the column `DurationSeconds`, to be found again in the table.
    pub(crate) duration_seconds: u64,
}

const STATIONS: &[&str] = &[
    "Harbour",
    "Old Market",
    "Museum \"De Waag\"",
    "Station, North",
    "Station, South",
    "Brewery",
    "University",
    "Lighthouse",
    "Quay 7",
    "Botanical Garden",
    "Town Hall",
    "Ferry Pier",
];
const PLANS: &[&str] = &["day", "month", "year", "guest"];
const ROWS_IN_JANUARY: u64 = 4_000;

/// Marsaglia's xorshift: enough for made-up hires.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// Writes the sample into `folder`.
pub(crate) fn write(folder: &Path) -> io::Result<Sample> {
    fs::create_dir_all(folder)?;
    let mut random = Random(0x5eed_f0f0_1234_9876);
    let mut sample = Sample::default();
    for month in 1..=12_u64 {
        let path = folder.join(format!("hires-2025-{month:02}.csv"));
        let mut file = io::BufWriter::new(fs::File::create(&path)?);
        writeln!(file, "HireId,StartTime,DurationSeconds,FromStation,ToStation,DistanceMetres,Fee,Plan,IsElectric")?;
        // More hires in summer.
        let rows = ROWS_IN_JANUARY * (7 - month.abs_diff(7)).pow(2);
        for row in 0..rows {
            let second = random.below(86_400);
            let duration = 60 + random.below(5_400);
            let (from, to) = (random.below(STATIONS.len() as u64), random.below(STATIONS.len() as u64));
            writeln!(
                file,
                "{},2025-{month:02}-{:02}T{:02}:{:02}:{:02}Z,{duration},{},{},{},{}.{:02},{},{}",
                month * 10_000_000 + row,
                1 + random.below(28),
                second / 3600,
                second / 60 % 60,
                second % 60,
                quoted(STATIONS[from as usize]),
                quoted(STATIONS[to as usize]),
                200 + random.below(9_000),
                random.below(12),
                random.below(100),
                PLANS[random.below(PLANS.len() as u64) as usize],
                random.below(3) == 0,
            )?;
            sample.duration_seconds += duration;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        sample.files += 1;
        sample.rows += rows;
        sample.bytes += fs::metadata(&path)?.len();
    }
    Ok(sample)
}
