//! Each rendered command against its golden file. `FERRY_GOLDEN=write cargo test -p ferry-kusto` writes them anew.

use super::*;
use std::{fs, path::Path};

const ID: &str = "74be27de-1e4e-49d9-b579-fe0b331d3642";
const ID2: &str = "84be27de-1e4e-49d9-b579-fe0b331d3642";

fn column(name: &str, kind: &str) -> TableColumn {
    TableColumn { name: name.to_owned(), kind: kind.to_owned() }
}

fn examples() -> Vec<(&'static str, Command)> {
    let csv = Ingest {
        table: "Flights".to_owned(),
        source: IngestSource::Url("https://acct.blob.core.windows.net/staging/r/1/1/0.csv.gz?sv=x&sig=y%3D".to_owned()),
        format: "csv",
        mapping: IngestMapping::Inline(vec![
            MappedColumn { column: "a".into(), kind: Some("long".into()), source: MappedSource::Ordinal(0) },
            MappedColumn { column: "it's \"b\"\\".into(), kind: None, source: MappedSource::Ordinal(12) },
        ]),
        ingest_by: "ferry:r/1/0".to_owned(),
        strict_width: true,
        creation_time: None,
    };
    let mapped = [MappedColumn { column: "a".into(), kind: None, source: MappedSource::Ordinal(0) }];
    let json = Ingest {
        source: IngestSource::Path("/srv/staging/r/1/1/0.json.gz".to_owned()),
        format: "json",
        mapping: IngestMapping::Inline(vec![MappedColumn {
            column: "a".into(),
            kind: Some("dynamic".into()),
            source: MappedSource::Path("$['a b']".into()),
        }]),
        ..csv.clone()
    };
    let reference = Ingest { mapping: IngestMapping::Reference("Map 1".into()), strict_width: false, ..csv.clone() };
    let dated = Ingest { creation_time: Some("2026-01-02T00:00:00Z".to_owned()), ..csv.clone() };
    let parquet = Ingest { format: "parquet", ..json.clone() };
    let plain = Ingest { mapping: IngestMapping::None, ..csv.clone() };
    vec![
        (
            "create_merge_table",
            create_merge_table("T", &[column("a", "long"), column("b c", "string"), column("d'e", "datetime")]),
        ),
        ("ingest_csv_inline_mapping", ingest(&csv)),
        ("ingest_csv_no_mapping", ingest(&plain)),
        ("ingest_csv_mapping_reference", ingest(&reference)),
        ("ingest_csv_creation_time", ingest(&dated)),
        ("ingest_json_path", ingest(&json)),
        ("ingest_parquet_path", ingest(&parquet)),
        ("create_csv_mapping", create_csv_mapping("T", "m", &mapped)),
        (
            "create_staging_table",
            create_staging_table("S", &[column("a", "long"), column("b c", "string")], "of run 'r'"),
        ),
        ("delete_after", delete_after("S", "2026-01-31")),
        ("drop_csv_mapping", drop_csv_mapping("T", "m")),
        ("drop_table", drop_table("S")),
        ("forbid_merges", forbid_merges("S")),
        ("keep_long", keep_long("S")),
        ("move_extents", move_extents("S", "T")),
        ("try_move_extents", try_move_extents("S", "T")),
        ("replace_extents", replace_extents("T", "S", "ingest-by:ferry:r:0/")),
        ("show_extents_total", show_extents_total("S", None)),
        ("show_extents_total_tagged", show_extents_total("T", Some("ingest-by:ferry:r:0/"))),
        ("show_extents_of", show_extents_of("T", "ferry:r:0/")),
        ("show_database_named", show_database_named("D'")),
        ("show_database_roles", show_database_roles("D")),
        ("show_table_roles", show_table_roles("T")),
        ("show_tables", show_tables()),
        ("alter_merge_table", alter_merge_table("T", &[column("a", "long")])),
        ("show_capacity_ingestions", show_capacity_ingestions()),
        ("show_cluster", show_cluster()),
        ("show_commands_by_request_id", show_commands_by_request_id("ferry.ingest;1")),
        ("show_data_operations", show_data_operations(&["ferry.ingest;1".to_owned(), "ferry.ingest;2".to_owned()])),
        ("show_extents_by_tag", show_extents_by_tag("T", "ingest-by:ferry:r/1/0")),
        ("show_ingestion_failures", show_ingestion_failures(ID)),
        ("show_operations", show_operations(&[ID.to_owned(), ID2.to_owned(), "not a guid".to_owned()])),
        ("show_operations_since", show_operations_since("2026-01-01T00:00:00Z")),
        ("show_table_cslschema", show_table_cslschema("T")),
        ("show_version", show_version()),
    ]
}

#[test]
fn every_command_renders_as_its_golden_file_has_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, command) in examples() {
        let path = folder.join(format!("{name}.kql"));
        let text = format!("{}\n", command.text());
        if std::env::var("FERRY_GOLDEN").is_ok_and(|v| v == "write") {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
    }
    let files = fs::read_dir(folder).unwrap().count();
    assert_eq!(files, examples().len(), "a golden file without a command");
}

#[test]
fn a_signature_is_sent_and_never_shown() {
    let (_, command) = examples().remove(1);
    assert!(command.text().contains("sig=y"));
    assert!(!format!("{command} {command:?}").contains("sig=y"));
}
