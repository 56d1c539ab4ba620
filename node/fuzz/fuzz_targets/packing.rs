//! Any bytes as a compressed file: an answer or an error, in bounded memory.
#![no_main]

use ferry_node::read::{Decoder, packing_of};
use libfuzzer_sys::fuzz_target;
use std::io::{Read as _, copy, sink};

fuzz_target!(|bytes: &[u8]| {
    let head = &bytes[..bytes.len().min(512)];
    if let Ok(packing) = packing_of("file", head, None, false)
        && let Some(codec) = packing.codec
        && let Ok(decoder) = Decoder::new(codec, bytes)
    {
        let _ = copy(&mut decoder.take(64 << 20), &mut sink());
    }
});
