//! A subset of the Kusto query language, evaluated on Arrow arrays. What it lacks it refuses by name.

mod aggregate;
pub mod ast;
mod eval;
pub mod lexer;
mod operators;
mod parser;

pub use eval::null as null_column;
pub use operators::{needed_columns, run_operators, source_frame};
pub use parser::Parser;
