//! Members of archives as files of their own.

use super::{Decoder, Packing, holds_own_packing, packing_of};
use crate::record::FormatError;
use ferry_common::{activity::Format, failure::Failure};
use std::io::{self, Read};

/// Bytes at the front of a member that tell how it is packed.
const HEAD_BYTES: u64 = 512;

/// A member's bytes without the codec that its own name and content tell of. `label` is its path, for messages.
pub fn unpacked_member<'r>(
    mut reader: Box<dyn Read + 'r>,
    label: &str,
    format: &Format,
    judge: &dyn Fn(io::Error) -> Failure,
) -> Result<Box<dyn Read + 'r>, Failure> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(judge)?;
    let packing = if head.is_empty() {
        Packing::NONE
    } else {
        packing_of(label, &head, None, holds_own_packing(format.kind))
            .map_err(|why| FormatError::NotTheFormat { why }.judged(label))?
    };
    let whole = io::BufReader::with_capacity(64 << 10, io::Cursor::new(head).chain(reader));
    match packing {
        Packing { archive: Some(_), .. } => {
            let why = "it is an archive inside an archive; unpack one of them".to_owned();
            Err(FormatError::NotTheFormat { why }.judged(label))
        }
        Packing { codec: Some(codec), .. } => Ok(Box::new(Decoder::new(codec, whole).map_err(judge)?)),
        Packing { codec: None, .. } => Ok(Box::new(whole)),
    }
}
