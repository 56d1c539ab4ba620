//! From a file's records to the table's columns: which field goes where, whether each value fits, and what is staged.

mod cells;
mod dates;
mod path;
mod projection;
mod value;

pub use cells::{CellWriter, scalar_of, surely_fits};
pub use dates::{DateFormat, date_of, day_of};
pub use path::{JsonPath, Step};
pub use projection::{Added, FileFacts, Out, Projection, Source};
pub use value::{Check, VALUE_BYTES_MAX, Verdict};
