//! What whoever asks may do. The service gives roles to principals; here everybody has the same ones, and without any said
//! everybody may do everything.
//!
//! Source: Azure Data Explorer, role-based access control, and the pages of the single commands ("you must have at least").

use crate::{
    commands::Request,
    error::AdxError,
    frame::{Col, Frame},
    kql::{Parser, lexer::Token},
    types::Kind,
};
use std::str::FromStr;

/// A role on the database, or on each table of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the service's")]
pub enum Role {
    DatabaseAdmin,
    DatabaseUser,
    DatabaseViewer,
    DatabaseMonitor,
    DatabaseIngestor,
    TableAdmin,
    TableIngestor,
    /// No role: the service knows the principal, and lets it do nothing.
    None,
}

impl Role {
    /// Every role, and how it is written.
    const ALL: [(Self, &str); 8] = [
        (Self::DatabaseAdmin, "database-admin"),
        (Self::DatabaseUser, "database-user"),
        (Self::DatabaseViewer, "database-viewer"),
        (Self::DatabaseMonitor, "database-monitor"),
        (Self::DatabaseIngestor, "database-ingestor"),
        (Self::TableAdmin, "table-admin"),
        (Self::TableIngestor, "table-ingestor"),
        (Self::None, "none"),
    ];

    /// As the service shows it, before and after the name of database or table.
    fn shown(self) -> Option<(bool, &'static str)> {
        Some(match self {
            Self::DatabaseAdmin => (false, "Admin"),
            Self::DatabaseUser => (false, "User"),
            Self::DatabaseViewer => (false, "Viewer"),
            Self::DatabaseMonitor => (false, "Monitor"),
            Self::DatabaseIngestor => (false, "Ingestor"),
            Self::TableAdmin => (true, "Admin"),
            Self::TableIngestor => (true, "Ingestor"),
            Self::None => return None,
        })
    }

    /// The role is enough for it.
    fn allows(self, right: Right) -> bool {
        use Right as R;
        match self {
            Self::DatabaseAdmin => true,
            Self::DatabaseUser => {
                matches!(right, R::Connect | R::Metadata | R::Query | R::CreateTable | R::Capacity | R::Own)
            }
            Self::DatabaseViewer => matches!(right, R::Connect | R::Metadata | R::Query | R::Own),
            Self::DatabaseMonitor => matches!(right, R::Connect | R::Metadata | R::Own),
            Self::DatabaseIngestor | Self::TableIngestor => {
                matches!(right, R::Connect | R::Ingest | R::Mapping | R::Own)
            }
            // The service makes whoever creates a table its admin; here nobody is told apart.
            Self::TableAdmin => matches!(right, R::Connect | R::Manage | R::Own),
            Self::None => false,
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        known
            .map(|(role, _)| *role)
            .ok_or_else(|| format!("role {text:?} is none of {}", Self::ALL.map(|(_, name)| name).join(", ")))
    }
}

/// What something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Being known.
    Connect,
    /// Seeing what there is: tables, columns, extents.
    Metadata,
    Query,
    Ingest,
    /// Making and dropping an ingestion mapping of a table.
    Mapping,
    CreateTable,
    /// Changing what a table is, and what extents it has.
    Manage,
    Capacity,
    /// Seeing what is one's own: operations, commands, failures, roles.
    Own,
}

/// What is shown where everything is allowed.
const EVERYTHING: &[Role] = &[Role::DatabaseAdmin];

/// The roles that everybody has; empty: everything is allowed.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Everybody has these roles, and no other; with none of them everything is allowed.
    pub fn new(roles: Vec<Role>) -> Self {
        Self(roles)
    }

    fn allow(&self, right: Right, what: &str, db: &str) -> Result<(), AdxError> {
        if self.0.is_empty() || self.0.iter().any(|role| role.allows(right)) {
            return Ok(());
        }
        Err(AdxError::forbidden(format!(
            "Forbidden (403-Forbidden): Principal 'local' is not authorized to perform operation '{what}' on database '{db}'."
        )))
    }

    /// A query may run.
    pub(crate) fn check_query(&self, db: &str) -> Result<(), AdxError> {
        self.allow(Right::Query, "Query", db)
    }

    /// Something may be ingested.
    pub(crate) fn check_ingestion(&self, db: &str) -> Result<(), AdxError> {
        self.allow(Right::Ingest, "Ingest", db)
    }

    /// A command may run.
    pub(crate) fn check_command(&self, request: &Request, text: &str) -> Result<(), AdxError> {
        let (right, what) = needed(Parser::new(text)?);
        self.allow(right, &what, &request.db)
    }

    /// A list of databases shows any: that takes a role on a database.
    pub(crate) fn sees_databases(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|role| role.allows(Right::Metadata))
    }

    /// `.show database D principal roles`; with a table, those of the table as well.
    pub(crate) fn frame(&self, db: &str, table: Option<&str>) -> Frame {
        let held = if self.0.is_empty() { EVERYTHING } else { self.0.as_slice() };
        let names: Vec<String> = held
            .iter()
            .filter_map(|role| match (role.shown()?, table) {
                ((false, name), _) => Some(format!("Database {db} {name}")),
                ((true, name), Some(table)) => Some(format!("Table {table} {name}")),
                ((true, _), None) => None,
            })
            .collect();
        let column = |name: &str, text: &str| {
            (name.to_owned(), Col::text(Kind::String, names.iter().map(|_| Some(text.to_owned()))))
        };
        Frame::new(vec![
            ("Role".to_owned(), Col::text(Kind::String, names.iter().map(Some))),
            column("PrincipalType", "Local"),
            column("PrincipalDisplayName", "local"),
            column("PrincipalObjectId", ""),
            column("PrincipalFQN", "local"),
        ])
    }
}

/// The right that a command needs, and what the service calls it. What is no command is let through: it fails by itself.
fn needed(mut p: Parser) -> (Right, String) {
    let mut words = Vec::new();
    // Names do not count: `table T ingestion` and `table ['ingestion']` differ.
    let mut is_name = false;
    while let Some(token) = p.advance() {
        match token {
            Token::Ident(_) | Token::Quoted(_) if is_name => is_name = false,
            Token::Ident(word) => {
                is_name = matches!(word.as_str(), "table" | "database");
                words.push(word);
            }
            Token::Sign("." | "-" | "[" | "]") => {}
            // Everything after it is about how.
            Token::Sign(_) => break,
            Token::Text(_) if is_name => is_name = false,
            _ => {}
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let right = match words.as_slice() {
        ["show", "version", ..] => Right::Connect,
        ["show", "databases", ..] => Right::Connect,
        ["show", "database" | "table", "principal", "roles", ..] => Right::Own,
        ["show", "operations" | "commands" | "data" | "ingestion", ..] => Right::Own,
        ["show", "capacity", ..] => Right::Capacity,
        ["show", ..] => Right::Metadata,
        ["create" | "drop", "table", "ingestion", ..] => Right::Mapping,
        ["create", "table", ..] | ["create", "merge", "table", ..] => Right::CreateTable,
        ["ingest" | "get", ..] => Right::Ingest,
        _ => Right::Manage,
    };
    (right, words.iter().take(2).copied().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_needs_what_the_service_says() {
        for (text, right) in [
            (".show version", Right::Connect),
            (".show databases | where DatabaseName == 'D'", Right::Connect),
            (".show database ['D'] principal roles", Right::Own),
            (".show table ['T'] principal roles", Right::Own),
            (".show tables", Right::Metadata),
            (".show table ['principal'] cslschema", Right::Metadata),
            (".show table T extents where tags has 'x'", Right::Metadata),
            (".show operations (11111111-1111-1111-1111-111111111111)", Right::Own),
            (".show data operations | where ClientActivityId in ('x')", Right::Own),
            (".show capacity ingestions", Right::Capacity),
            (".create table ['T'] ingestion csv mapping 'm' '[]'", Right::Mapping),
            (".drop table ['T'] ingestion csv mapping 'm'", Right::Mapping),
            (".create table ['ingestion'] (['a']:long)", Right::CreateTable),
            (".create-merge table ['T'] (['a']:long)", Right::CreateTable),
            (".drop table ['T'] ifexists", Right::Manage),
            (".alter table ['T'] policy merge '{}'", Right::Manage),
            (".move extents to table ['T'] <| .show table ['S'] extents", Right::Manage),
            (".ingest async into table ['T'] ('x') with (format='csv')", Right::Ingest),
            (".get ingestion resources", Right::Ingest),
        ] {
            assert_eq!(needed(Parser::new(text).unwrap()).0, right, "{text}");
        }
    }

    #[test]
    fn roles_are_told_as_the_service_writes_them() {
        let roles = Roles::new(vec!["table-ingestor".parse().unwrap(), "database-monitor".parse().unwrap()]);
        let shown = |frame: Frame| {
            let names = frame.cols[0].texts();
            (0..frame.rows).map(|row| names.value(row).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(roles.frame("D", Some("T"))), ["Table T Ingestor", "Database D Monitor"]);
        assert_eq!(shown(roles.frame("D", None)), ["Database D Monitor"]);
        assert_eq!(shown(Roles::default().frame("D", None)), ["Database D Admin"]);
        assert!("owner".parse::<Role>().is_err());
    }
}
