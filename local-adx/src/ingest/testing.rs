//! What tests of ingestion share.

use super::{Properties, decode};
use crate::{
    catalogue::{Column, Table},
    extents,
    types::Kind,
};
use serde_json::Value;

/// Where test blobs seem to come from.
pub const LOCATION: &str = "https://account/container/blob";

/// A table of columns such as `a:int,b:string`.
pub fn table(schema: &str) -> Table {
    let columns = schema.split(',').map(|column| {
        let (name, kind) = column.split_once(':').unwrap();
        Column { name: name.to_owned(), kind: Kind::parse(kind).unwrap() }
    });
    Table { name: "T".to_owned(), columns: columns.collect() }
}

/// Properties that name a format alone.
pub fn of_format(format: &str) -> Properties {
    Properties { format: format.to_owned(), ..Properties::default() }
}

/// The rows that a table has after this blob, or the failure's code.
pub fn ingested(blob: &[u8], schema: &str, properties: &Properties) -> Result<Value, &'static str> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("blob"), folder.path().join("extent"));
    std::fs::write(&from, blob).unwrap();
    let table = table(schema);
    let name = format!("{LOCATION}?sig=secret");
    let (rows, bytes) = decode(&from, &name, &to, &table, properties).map_err(|e| e.code)?;
    assert!(bytes > 0);
    let frames = extents::read(&to, &table.columns, None, rows).unwrap();
    Ok(frames.into_iter().flat_map(|frame| frame.unwrap().json_rows()).collect())
}
