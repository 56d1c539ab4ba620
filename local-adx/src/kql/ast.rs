//! What a query says.

use crate::types::Kind;

/// A literal.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the types")]
pub enum Lit {
    Null(Kind),
    Bool(bool),
    Long(i64),
    Real(f64),
    Text(String),
    Datetime(i64),
    Timespan(i64),
    Guid(String),
    Dynamic(String),
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the operators")]
pub enum Binary {
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// Operators on text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTest {
    /// Such as `has`, without `!` and `_cs`.
    pub name: String,
    /// The test must fail.
    pub negated: bool,
    /// Letter case counts.
    pub case_sensitive: bool,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Expr {
    Lit(Lit),
    Name(String),
    Member(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Neg(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Text(TextTest, Box<Expr>, Box<Expr>),
    In { value: Box<Expr>, list: Vec<Expr>, negated: bool, case_sensitive: bool },
    Between { value: Box<Expr>, low: Box<Expr>, high: Box<Expr>, negated: bool },
    Call(String, Vec<Expr>),
    Star,
}

/// An expression with the name it is given, if any.
pub type Named = (Option<String>, Expr);

/// A key of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    /// What to sort by.
    pub expr: Expr,
    /// Largest first.
    pub descending: bool,
    /// Nulls before all.
    pub nulls_first: bool,
}

/// A tabular operator.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the operators")]
pub enum Operator {
    Where(Expr),
    Extend(Vec<Named>),
    Project(Vec<Named>),
    ProjectAway(Vec<String>),
    ProjectRename(Vec<(String, String)>),
    Summarize { aggregates: Vec<Named>, by: Vec<Named> },
    Sort(Vec<SortKey>),
    Top(usize, Vec<SortKey>),
    Take(usize),
    Count,
    Distinct(Vec<Expr>),
    GetSchema,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Source {
    Table(String),
    Print(Vec<Named>),
    Range { name: String, from: Expr, to: Expr, step: Expr },
}

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Where rows come from.
    pub source: Source,
    /// What is done with them.
    pub operators: Vec<Operator>,
}
