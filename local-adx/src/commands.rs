//! Management commands.

use crate::{
    Adx,
    catalogue::{Column, Extent, FailureRow, Ingested, Operation, Table},
    error::AdxError,
    faults::Fault,
    frame::{Col, Frame},
    ingest::{self, IngestError, Properties},
    kql::{Parser, lexer::Token, run_operators},
    now_ticks,
    types::Kind,
};
use std::{sync::Arc, time::Duration};

/// Tries to note that an operation has ended whose end could not be noted, and the wait between them.
const END_TRIES_MAX: u32 = 60;
const END_WAIT: Duration = Duration::from_secs(1);

/// What stands around a command.
#[derive(Debug, Clone)]
pub struct Request {
    /// The database.
    pub db: String,
    /// The client's id of the request.
    pub request_id: String,
    /// The service's id of it.
    pub root: String,
}

/// What to answer.
pub enum Outcome {
    /// A result.
    Result(Frame),
    /// Nothing: the connection breaks.
    Broken,
}

fn strings(values: &[&str]) -> Col {
    Col::text(Kind::String, values.iter().map(Some))
}

fn text_column(name: &str, values: impl IntoIterator<Item = String>) -> (String, Col) {
    (name.to_owned(), Col::text(Kind::String, values.into_iter().map(Some)))
}

fn guid_column(name: &str, values: impl IntoIterator<Item = String>) -> (String, Col) {
    (name.to_owned(), Col::text(Kind::Guid, values.into_iter().map(Some)))
}

fn long_column(name: &str, kind: Kind, values: impl IntoIterator<Item = i64>) -> (String, Col) {
    (name.to_owned(), Col::integral(kind, values.into_iter().map(Some)))
}

fn bool_column(name: &str, values: impl IntoIterator<Item = bool>) -> (String, Col) {
    (name.to_owned(), Col::bool(values.into_iter().map(Some).collect()))
}

fn cslschema(columns: &[Column]) -> String {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let quoted = |name: &str| {
        if is_plain(name) {
            name.to_owned()
        } else {
            format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
        }
    };
    columns.iter().map(|c| format!("{}:{}", quoted(&c.name), c.kind.name())).collect::<Vec<_>>().join(",")
}

fn table_frame(db: &str, tables: &[Table]) -> Frame {
    Frame::new(vec![
        text_column("TableName", tables.iter().map(|t| t.name.clone())),
        text_column("Schema", tables.iter().map(|t| cslschema(&t.columns))),
        text_column("DatabaseName", tables.iter().map(|_| db.to_owned())),
        text_column("Folder", tables.iter().map(|_| String::new())),
        text_column("DocString", tables.iter().map(|_| String::new())),
    ])
}

fn extents_frame(db: &str, extents: &[Extent]) -> Frame {
    let ticks = |name, of: fn(&Extent) -> i64| long_column(name, Kind::Datetime, extents.iter().map(of));
    Frame::new(vec![
        guid_column("ExtentId", extents.iter().map(|e| e.id.clone())),
        text_column("DatabaseName", extents.iter().map(|_| db.to_owned())),
        text_column("TableName", extents.iter().map(|e| e.table.clone())),
        ticks("MaxCreatedOn", |e| e.created_ticks),
        ("OriginalSize".to_owned(), Col::real(extents.iter().map(|e| Some(e.original_size as f64)))),
        ("ExtentSize".to_owned(), Col::real(extents.iter().map(|e| Some(e.extent_size as f64)))),
        long_column("RowCount", Kind::Long, extents.iter().map(|e| e.rows)),
        ticks("MinCreatedOn", |e| e.created_ticks),
        text_column("Tags", extents.iter().map(|e| e.tags.join("\r\n"))),
    ])
}

/// A condition on the tags of an extent.
struct TagFilter {
    is_negated: bool,
    is_whole: bool,
    wanted: String,
}

/// Reads `where tags has 'a' and tags !contains 'b'`, if it is next.
fn tag_filters(p: &mut Parser) -> Result<Vec<TagFilter>, AdxError> {
    let mut filters = Vec::new();
    if p.words(&["where", "tags"]) {
        loop {
            let is_negated = p.sign("!");
            // The service's `has` is about whole tags here.
            let is_whole = p.word("has");
            if !is_whole && !p.word("contains") {
                return p.fail("'has' or 'contains'");
            }
            filters.push(TagFilter { is_negated, is_whole, wanted: p.text()?.to_lowercase() });
            if !p.words(&["and", "tags"]) {
                break;
            }
        }
    }
    Ok(filters)
}

fn is_tagged(extent: &Extent, filters: &[TagFilter]) -> bool {
    filters.iter().all(|filter| {
        let is_found = |tag: &String| {
            let tag = tag.to_lowercase();
            if filter.is_whole { tag == filter.wanted } else { tag.contains(&filter.wanted) }
        };
        extent.tags.iter().any(is_found) != filter.is_negated
    })
}

/// Reads `with (name=value, ...)`, if it is next. They change nothing here; unknown ones are refused.
fn with_properties(p: &mut Parser, known: &[&str]) -> Result<(), AdxError> {
    if !p.word("with") {
        return Ok(());
    }
    p.expect("(")?;
    while !p.sign(")") {
        let name = p.name()?;
        if !known.contains(&name.as_str()) {
            return Err(AdxError::not_supported(format!("property '{name}' is not supported by local-adx")));
        }
        p.expect("=")?;
        p.advance();
        p.sign(",");
        if p.is_at_end() {
            return p.fail("')'");
        }
    }
    Ok(())
}

/// Extents may go where every column of theirs is.
fn same_columns(from: &Table, to: &Table) -> Result<(), AdxError> {
    match from.columns.iter().find(|c| !to.columns.contains(c)) {
        None => Ok(()),
        Some(column) => {
            Err(AdxError::bad_request(format!("Table '{}' has no column '{}' of that type.", to.name, column.name)))
        }
    }
}

fn moved_frame(dropped: &[String], moved: &[String]) -> Frame {
    let all = || dropped.iter().chain(moved);
    Frame::new(vec![
        guid_column("OriginalExtentId", all().cloned()),
        text_column("ResultExtentId", dropped.iter().map(|_| String::new()).chain(moved.iter().cloned())),
        text_column("Details", all().map(|_| String::new())),
    ])
}

impl Adx {
    /// Runs a command.
    pub async fn command(self: &Arc<Self>, request: &Request, text: &str) -> Result<Outcome, AdxError> {
        self.roles.check_command(request, text)?;
        let mut parser = Parser::new(text)?;
        parser.expect(".")?;
        let Some(Token::Ident(verb)) = parser.advance() else {
            return Err(AdxError::syntax("Syntax error: a command is missing"));
        };
        match verb.as_str() {
            "show" => self.show(request, &mut parser).await.map(Outcome::Result),
            "create" => self.create(request, &mut parser).await.map(Outcome::Result),
            "alter" => self.alter(request, &mut parser).await.map(Outcome::Result),
            "drop" => self.drop_entity(request, &mut parser).await.map(Outcome::Result),
            "clear" => self.clear(request, &mut parser).await.map(Outcome::Result),
            "move" => self.move_extents(request, &mut parser).await,
            "replace" => self.replace_extents(request, &mut parser).await,
            "ingest" => self.ingest(request, &mut parser, text).await,
            "get" => {
                let mut words = Vec::new();
                while let Some(Token::Ident(word)) = parser.advance() {
                    words.push(word);
                }
                self.get(&words.join(" ")).map(Outcome::Result)
            }
            other => Err(AdxError::not_supported(format!("command '.{other}' is not supported by local-adx"))),
        }
    }

    pub(crate) async fn existing_table(&self, db: &str, name: &str) -> Result<Table, AdxError> {
        self.catalogue.table(db, name).await?.ok_or_else(|| {
            AdxError::no_table(format!(
                "BadRequest_TableNotExist: Entity not found: table '{name}' was not found in database '{db}'."
            ))
        })
    }

    async fn show(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        let db = request.db.as_str();
        let Some(Token::Ident(what)) = p.advance() else { return Err(AdxError::syntax("Syntax error: .show what?")) };
        let frame = match what.as_str() {
            "version" => Frame::new(vec![
                ("BuildVersion".to_owned(), strings(&[env!("CARGO_PKG_VERSION")])),
                long_column("BuildTime", Kind::Datetime, [0]),
                ("ServiceType".to_owned(), strings(&["Engine"])),
                ("ProductVersion".to_owned(), strings(&[concat!("local-adx ", env!("CARGO_PKG_VERSION"))])),
            ]),
            "databases" => {
                let mut names = self.catalogue.databases().await?;
                names.extend(self.databases.iter().filter(|d| !names.contains(d)).cloned().collect::<Vec<_>>());
                if !self.roles.sees_databases() {
                    names.clear();
                }
                Frame::new(vec![
                    text_column("DatabaseName", names.iter().cloned()),
                    text_column("DatabaseAccessMode", names.iter().map(|_| "ReadWrite".to_owned())),
                    text_column("PrettyName", names.iter().map(|_| String::new())),
                ])
            }
            "database" => {
                let name = p.name()?;
                if !p.words(&["principal", "roles"]) {
                    return p.fail("'principal roles'");
                }
                if !self.databases.is_empty() && !self.databases.contains(&name) {
                    let why = format!("BadRequest_DatabaseNotExist: Database '{name}' was not found.");
                    return Err(AdxError::no_database(why));
                }
                self.roles.frame(&name, None)
            }
            "tables" => {
                let mut tables = Vec::new();
                for name in self.catalogue.tables(db).await? {
                    tables.push(self.existing_table(db, &name).await?);
                }
                let mut frame = table_frame(db, &tables);
                frame.names.remove(1);
                frame.cols.remove(1);
                frame
            }
            "table" => self.show_table(db, p).await?,
            "operations" => self.show_operations(p).await?,
            "commands" => self.show_commands().await?,
            "data" if p.word("operations") => self.show_data_operations().await?,
            "ingestion" if p.word("failures") => self.show_failures(p).await?,
            "capacity" => {
                let _ = p.word("ingestions");
                let used = self.ingesting_now();
                Frame::new(vec![
                    ("Resource".to_owned(), strings(&["Ingestions"])),
                    long_column("Total", Kind::Long, [self.capacity]),
                    long_column("Consumed", Kind::Long, [used.min(self.capacity)]),
                    long_column("Remaining", Kind::Long, [(self.capacity - used).max(0)]),
                    ("Origin".to_owned(), strings(&["CapacityPolicy/Ingestion"])),
                ])
            }
            other => return Err(AdxError::not_supported(format!("'.show {other}' is not supported by local-adx"))),
        };
        run_operators([Ok(frame)], &p.pipeline()?)
    }

    async fn show_table(&self, db: &str, p: &mut Parser) -> Result<Frame, AdxError> {
        let table = self.existing_table(db, &p.name()?).await?;
        if p.words(&["principal", "roles"]) {
            return Ok(self.roles.frame(db, Some(&table.name)));
        }
        if p.word("cslschema") {
            return Ok(table_frame(db, &[table]));
        }
        if p.word("schema") {
            if !p.words(&["as", "json"]) {
                return p.fail("'as json'");
            }
            let columns: Vec<_> = table
                .columns
                .iter()
                .map(|c| serde_json::json!({"Name": c.name, "Type": format!("System.{}", c.kind.net_name()), "CslType": c.kind.name()}))
                .collect();
            let mut frame = table_frame(db, std::slice::from_ref(&table));
            let json = serde_json::json!({"Name": table.name, "OrderedColumns": columns}).to_string();
            frame.cols[1] = strings(&[&json]);
            return Ok(frame);
        }
        if p.word("details") {
            let extents = self.catalogue.extents(db, &table.name).await?;
            return Ok(Frame::new(vec![
                text_column("TableName", [table.name]),
                text_column("DatabaseName", [db.to_owned()]),
                long_column("TotalExtents", Kind::Long, [extents.len() as i64]),
                long_column("TotalRowCount", Kind::Long, [extents.iter().map(|e| e.rows).sum()]),
            ]));
        }
        if p.word("extents") {
            return self.extents(db, &table, p).await;
        }
        p.fail("cslschema, schema as json, details, extents or principal roles")
    }

    /// A table's extents, as far as `where tags ...` lets them through.
    async fn extents(&self, db: &str, table: &Table, p: &mut Parser) -> Result<Frame, AdxError> {
        let filters = tag_filters(p)?;
        let mut extents = self.catalogue.extents(db, &table.name).await?;
        extents.retain(|e| is_tagged(e, &filters));
        Ok(extents_frame(db, &extents))
    }

    async fn show_operations(&self, p: &mut Parser) -> Result<Frame, AdxError> {
        let mut ids: Option<Vec<String>> = None;
        let in_list = p.sign("(");
        while let Some(Token::Guid(id) | Token::Text(id)) = p.peek().cloned() {
            p.advance();
            ids.get_or_insert_default().push(id.to_lowercase());
            p.sign(",");
        }
        if in_list {
            p.expect(")")?;
        }
        let mut operations = self.catalogue.operations().await?;
        if let Some(ids) = ids {
            operations.retain(|o| ids.contains(&o.id));
        }
        let ops = &operations;
        let span = |o: &Operation| o.updated_ticks - o.started_ticks;
        Ok(Frame::new(vec![
            guid_column("OperationId", ops.iter().map(|o| o.id.clone())),
            text_column("Operation", ops.iter().map(|o| o.kind.clone())),
            text_column("NodeId", ops.iter().map(|_| String::new())),
            long_column("StartedOn", Kind::Datetime, ops.iter().map(|o| o.started_ticks)),
            long_column("LastUpdatedOn", Kind::Datetime, ops.iter().map(|o| o.updated_ticks)),
            long_column("Duration", Kind::Timespan, ops.iter().map(span)),
            text_column("State", ops.iter().map(|o| o.state.clone())),
            text_column("Status", ops.iter().map(|o| o.status.clone())),
            guid_column("RootActivityId", ops.iter().map(|o| o.root.clone())),
            bool_column("ShouldRetry", ops.iter().map(|o| o.should_retry)),
            text_column("Database", ops.iter().map(|o| o.db.clone())),
        ]))
    }

    async fn show_commands(&self) -> Result<Frame, AdxError> {
        type Row = (String, String, String, String, i64, i64, String, String, String);
        let rows: Vec<Row> = self.catalogue.journal("SELECT * FROM commands ORDER BY started_ticks DESC").await?;
        Ok(Frame::new(vec![
            text_column("ClientActivityId", rows.iter().map(|r| r.0.clone())),
            text_column("CommandType", rows.iter().map(|r| r.1.clone())),
            text_column("Text", rows.iter().map(|r| r.2.clone())),
            text_column("Database", rows.iter().map(|r| r.3.clone())),
            long_column("StartedOn", Kind::Datetime, rows.iter().map(|r| r.4)),
            long_column("LastUpdatedOn", Kind::Datetime, rows.iter().map(|r| r.5)),
            text_column("State", rows.iter().map(|r| r.6.clone())),
            guid_column("RootActivityId", rows.iter().map(|r| r.7.clone())),
            text_column("FailureReason", rows.iter().map(|r| r.8.clone())),
        ]))
    }

    async fn show_data_operations(&self) -> Result<Frame, AdxError> {
        type Row = (i64, String, String, String, i64, i64, i64, i64);
        let rows: Vec<Row> = self.catalogue.journal("SELECT * FROM data_operations ORDER BY at_ticks DESC").await?;
        Ok(Frame::new(vec![
            long_column("Timestamp", Kind::Datetime, rows.iter().map(|r| r.0)),
            text_column("Database", rows.iter().map(|r| r.1.clone())),
            text_column("Table", rows.iter().map(|r| r.2.clone())),
            text_column("ClientActivityId", rows.iter().map(|r| r.3.clone())),
            text_column("OperationKind", rows.iter().map(|_| "BatchIngest".to_owned())),
            long_column("OriginalSize", Kind::Long, rows.iter().map(|r| r.5)),
            long_column("ExtentSize", Kind::Long, rows.iter().map(|r| r.6)),
            long_column("RowCount", Kind::Long, rows.iter().map(|r| r.4)),
            long_column("Duration", Kind::Timespan, rows.iter().map(|r| r.7)),
        ]))
    }

    async fn show_failures(&self, p: &mut Parser) -> Result<Frame, AdxError> {
        type Row = (String, String, String, i64, String, String, i64, String, String);
        let mut rows: Vec<Row> = self.catalogue.journal("SELECT * FROM failures ORDER BY at_ticks DESC").await?;
        if p.word("with") {
            p.expect("(")?;
            if !p.word("OperationId") {
                return p.fail("OperationId");
            }
            p.expect("=")?;
            let id = p.text()?;
            p.expect(")")?;
            rows.retain(|r| r.0.eq_ignore_ascii_case(&id));
        }
        Ok(Frame::new(vec![
            guid_column("OperationId", rows.iter().map(|r| r.0.clone())),
            text_column("Database", rows.iter().map(|r| r.1.clone())),
            text_column("Table", rows.iter().map(|r| r.2.clone())),
            long_column("FailedOn", Kind::Datetime, rows.iter().map(|r| r.3)),
            text_column("IngestionSourcePath", rows.iter().map(|r| r.4.clone())),
            text_column("Details", rows.iter().map(|r| r.5.clone())),
            text_column(
                "FailureKind",
                rows.iter().map(|r| if r.6 != 0 { "Permanent" } else { "Transient" }.to_owned()),
            ),
            guid_column("RootActivityId", rows.iter().map(|r| r.7.clone())),
            text_column("OperationKind", rows.iter().map(|_| "DataIngestPull".to_owned())),
            text_column("ErrorCode", rows.iter().map(|r| r.8.clone())),
            bool_column("ShouldRetry", rows.iter().map(|r| r.6 == 0)),
        ]))
    }

    async fn create(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        let merge = p.sign("-");
        if merge && !p.word("merge") {
            return Err(AdxError::not_supported("only .create and .create-merge are supported by local-adx"));
        }
        if !p.word("table") {
            return Err(AdxError::not_supported("only tables and ingestion mappings can be created in local-adx"));
        }
        let db = request.db.as_str();
        let name = p.name()?;
        if !merge && p.word("ingestion") {
            let kind = p.name()?;
            if !p.word("mapping") {
                return p.fail("'mapping'");
            }
            let (mapping, json) = (p.text()?, p.text()?);
            expect_end(p)?;
            self.existing_table(db, &name).await?;
            self.catalogue.put_mapping(db, &name, &kind, &mapping, Some(&json)).await?;
            return Ok(Frame::new(vec![
                text_column("Name", [mapping]),
                text_column("Kind", [kind]),
                text_column("Mapping", [json]),
            ]));
        }
        let columns = column_list(p)?;
        if !merge {
            with_properties(p, &["docstring", "folder", "hidden"])?;
        }
        expect_end(p)?;
        let known = self.catalogue.table(db, &name).await?;
        let table = match known {
            Some(table) if !merge => table,
            Some(table) => merged(table, columns)?,
            None => Table { name, columns },
        };
        self.catalogue.put_table(db, &table).await?;
        Ok(table_frame(db, &[table]))
    }

    async fn alter(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        if p.word("table") {
            return self.alter_policy(request, p).await;
        }
        if !p.sign("-") || !p.words(&["merge", "table"]) {
            return Err(AdxError::not_supported("only .alter-merge table is supported by local-adx"));
        }
        let table = self.existing_table(&request.db, &p.name()?).await?;
        let columns = column_list(p)?;
        expect_end(p)?;
        let table = merged(table, columns)?;
        self.catalogue.put_table(&request.db, &table).await?;
        Ok(table_frame(&request.db, &[table]))
    }

    /// `.alter table T policy P 'JSON'`, for the policies that a staging table has. There is nothing here that merges
    /// extents or deletes tables by itself, so they are taken and change nothing.
    async fn alter_policy(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        let table = self.existing_table(&request.db, &p.name()?).await?;
        if !p.word("policy") {
            return p.fail("'policy'");
        }
        let kind = p.name()?;
        if !matches!(kind.as_str(), "merge" | "auto_delete" | "retention") {
            return Err(AdxError::not_supported(format!("policy '{kind}' is not supported by local-adx")));
        }
        let policy = p.text()?;
        expect_end(p)?;
        if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&policy).is_err() {
            return Err(AdxError::bad_request(format!("BadRequest_InvalidPolicy: {policy} is no JSON object.")));
        }
        Ok(Frame::new(vec![
            text_column("PolicyName", [kind]),
            text_column("EntityName", [table.name]),
            text_column("Policy", [policy]),
        ]))
    }

    async fn drop_entity(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        let db = request.db.as_str();
        if p.word("table") {
            let name = p.name()?;
            if p.word("ingestion") {
                let kind = p.name()?;
                if !p.word("mapping") {
                    return p.fail("'mapping'");
                }
                let mapping = p.text()?;
                expect_end(p)?;
                self.catalogue.put_mapping(db, &name, &kind, &mapping, None).await?;
                return Ok(Frame::new(vec![text_column("TableName", [name])]));
            }
            if !p.word("ifexists") {
                self.existing_table(db, &name).await?;
            }
            expect_end(p)?;
            self.catalogue.drop_table(db, &name).await?;
            return Ok(Frame::new(vec![
                text_column("TableName", [name]),
                text_column("DatabaseName", [db.to_owned()]),
            ]));
        }
        if p.word("extents") && p.word("from") {
            let name = p.name()?;
            expect_end(p)?;
            let extents = self.catalogue.extents(db, &name).await?;
            let ids: Vec<_> = extents.iter().map(|e| e.id.clone()).collect();
            self.catalogue.drop_extents(&ids).await?;
            return Ok(extents_frame(db, &extents));
        }
        Err(AdxError::not_supported(
            "only tables, their mappings and '.drop extents from T' can be dropped in local-adx",
        ))
    }

    async fn clear(&self, request: &Request, p: &mut Parser) -> Result<Frame, AdxError> {
        if !p.word("table") {
            return p.fail("'table'");
        }
        let table = self.existing_table(&request.db, &p.name()?).await?;
        if !p.word("data") {
            return p.fail("'data'");
        }
        expect_end(p)?;
        let extents = self.catalogue.extents(&request.db, &table.name).await?;
        self.catalogue.drop_extents(&extents.into_iter().map(|e| e.id).collect::<Vec<_>>()).await?;
        Ok(Frame::new(vec![("Status".to_owned(), strings(&["Success"]))]))
    }

    async fn move_extents(&self, request: &Request, p: &mut Parser) -> Result<Outcome, AdxError> {
        let db = request.db.as_str();
        let (from, to, moved) = if p.words(&["extents", "all", "from", "table"]) {
            let from = self.existing_table(db, &p.name()?).await?;
            if !p.words(&["to", "table"]) {
                return p.fail("'to table'");
            }
            let to = self.existing_table(db, &p.name()?).await?;
            let extents = self.catalogue.extents(db, &from.name).await?;
            (from, to, extents.into_iter().map(|e| e.id).collect())
        } else if p.words(&["extents", "to", "table"]) {
            let to = self.existing_table(db, &p.name()?).await?;
            with_properties(p, &["setNewIngestionTime"])?;
            p.expect("<|")?;
            let (from, moved) = self.extents_of_query(db, p).await?;
            (from, to, moved)
        } else {
            return Err(AdxError::not_supported(
                "only '.move extents all from table A to table B' and '.move extents to table B <| query' are supported by \
                 local-adx",
            ));
        };
        expect_end(p)?;
        same_columns(&from, &to)?;
        self.struck_publish(db, &from.name, || async {
            self.catalogue.replace_extents(&[], &moved, &to.name).await?;
            Ok(moved_frame(&[], &moved))
        })
        .await
    }

    /// `.replace extents in table T <| {extents to drop}, {extents to move}`, both as `.show table ... extents | ...`.
    async fn replace_extents(&self, request: &Request, p: &mut Parser) -> Result<Outcome, AdxError> {
        let db = request.db.as_str();
        if !p.words(&["extents", "in", "table"]) {
            return p.fail("'extents in table'");
        }
        let to = self.existing_table(db, &p.name()?).await?;
        with_properties(p, &["setNewIngestionTime"])?;
        p.expect("<|")?;
        p.expect("{")?;
        let (dropped_from, dropped) = self.extents_of_query(db, p).await?;
        p.expect("}")?;
        p.expect(",")?;
        p.expect("{")?;
        let (from, moved) = self.extents_of_query(db, p).await?;
        p.expect("}")?;
        expect_end(p)?;
        if dropped_from.name != to.name {
            return Err(AdxError::bad_request(format!("The extents to drop are not of table '{}'.", to.name)));
        }
        same_columns(&from, &to)?;
        self.struck_publish(db, &from.name, || async {
            self.catalogue.replace_extents(&dropped, &moved, &to.name).await?;
            Ok(moved_frame(&dropped, &moved))
        })
        .await
    }

    /// `.show table T extents | ...`: the table, and the extents that the query names.
    async fn extents_of_query(&self, db: &str, p: &mut Parser) -> Result<(Table, Vec<String>), AdxError> {
        p.expect(".")?;
        if !p.words(&["show", "table"]) {
            return p.fail("'.show table'");
        }
        let table = self.existing_table(db, &p.name()?).await?;
        if !p.word("extents") {
            return p.fail("'extents'");
        }
        let extents = self.extents(db, &table, p).await?;
        let frame = run_operators([Ok(extents)], &p.operators()?)?;
        let Some(at) = frame.names.iter().position(|name| name == "ExtentId") else {
            return Err(AdxError::bad_request("The query must give the column ExtentId."));
        };
        let ids = frame.cols[at].texts();
        Ok((table, (0..frame.rows).map(|row| ids.value(row).to_owned()).collect()))
    }

    /// Does the work of a command that moves extents out of `from`, with the faults that are meant for it.
    async fn struck_publish<F>(&self, db: &str, from: &str, work: impl FnOnce() -> F) -> Result<Outcome, AdxError>
    where
        F: Future<Output = Result<Frame, AdxError>>,
    {
        // A move of nothing is only a trial.
        let has_extents = !self.catalogue.extents(db, from).await?.is_empty();
        let faults = if has_extents { self.faults.strike_publish() } else { Vec::new() };
        if faults.contains(&Fault::PublishThrottle) {
            return Err(AdxError::throttled("The control command was aborted due to throttling."));
        }
        if faults.contains(&Fault::PublishError) {
            return Err(AdxError::internal("a failure that was asked for"));
        }
        let frame = work().await?;
        Ok(if faults.contains(&Fault::PublishLostAnswer) { Outcome::Broken } else { Outcome::Result(frame) })
    }

    async fn ingest(self: &Arc<Self>, request: &Request, p: &mut Parser, text: &str) -> Result<Outcome, AdxError> {
        if matches!(p.peek(), Some(Token::Ident(w)) if w == "inline") {
            return Err(AdxError::not_supported("'.ingest inline' is not supported by local-adx"));
        }
        let started = now_ticks();
        let is_async = p.word("async");
        if !p.word("into") {
            return p.fail("'into'");
        }
        p.word("table");
        let table = self.existing_table(&request.db, &p.name()?).await?;
        let sources = source_list(p)?;
        let [source] = sources.as_slice() else {
            return Err(AdxError::not_supported("one blob a command is what local-adx supports"));
        };
        let properties = self.properties(&request.db, &table, p).await?;
        if !p.is_at_end() {
            return p.fail("the end");
        }
        let faults = self.faults.strike();
        for fault in &faults {
            match fault {
                Fault::Throttle => {
                    return Err(AdxError::throttled(
                        "The control command was aborted due to throttling. Retrying after some backoff might succeed. \
                         CommandType: 'DataIngestPull', Capacity: 1, Origin: 'CapacityPolicy/Ingestion'.",
                    ));
                }
                Fault::Error => return Err(AdxError::internal("a failure that was asked for")),
                Fault::Hang(time) => tokio::time::sleep(*time).await,
                _ => {}
            }
        }
        let operation = Operation::ingestion(uuid::Uuid::new_v4().to_string(), &request.root, &request.db, started);
        self.catalogue.put_operation(&operation).await?;
        let task = Arc::clone(self).run_ingestion(
            request.clone(),
            table,
            source.clone(),
            properties,
            operation.clone(),
            faults.clone(),
        );
        // In a task of its own: a client that goes away does not undo what it asked for.
        let task = tokio::spawn(task);
        let text = without_literals(text);
        if is_async {
            self.catalogue
                .note_command(
                    &request.request_id,
                    "DataIngestPull",
                    &text,
                    &request.db,
                    started,
                    "Completed",
                    &request.root,
                    "",
                )
                .await?;
            if faults.contains(&Fault::LostAnswer) {
                return Ok(Outcome::Broken);
            }
            return Ok(Outcome::Result(Frame::new(vec![guid_column("OperationId", [operation.id])])));
        }
        let ended = task.await.map_err(|e| AdxError::internal(e.to_string()))?;
        let (state, failure) = ended.as_ref().err().map_or(("Completed", ""), |e| ("Failed", e.details.as_str()));
        self.catalogue
            .note_command(
                &request.request_id,
                "DataIngestPull",
                &text,
                &request.db,
                started,
                state,
                &request.root,
                failure,
            )
            .await?;
        if faults.contains(&Fault::LostAnswer) {
            return Ok(Outcome::Broken);
        }
        let extent = match ended {
            Ok(extent) => extent,
            Err(e) if e.permanent => return Err(AdxError::bad_request(format!("{}: {}", e.code, e.details))),
            Err(e) => return Err(AdxError::internal(format!("{}: {}", e.code, e.details))),
        };
        Ok(Outcome::Result(Frame::new(vec![
            guid_column("ExtentId", [extent.map_or_else(|| uuid::Uuid::nil().to_string(), |e| e.id)]),
            text_column("ItemLoaded", [source.split('?').next().unwrap_or_default().to_owned()]),
            long_column("Duration", Kind::Timespan, [now_ticks() - started]),
            bool_column("HasErrors", [false]),
            guid_column("OperationId", [operation.id]),
        ])))
    }

    async fn properties(&self, db: &str, table: &Table, p: &mut Parser) -> Result<Properties, AdxError> {
        let mut properties = Properties::parse(p)?;
        self.resolve_mapping(db, table, &mut properties).await?;
        Ok(properties)
    }

    /// Looks up the mapping that properties name.
    pub(crate) async fn resolve_mapping(
        &self,
        db: &str,
        table: &Table,
        properties: &mut Properties,
    ) -> Result<(), AdxError> {
        if let Some(name) = &properties.mapping_reference {
            let kind = ingest::mapping_kind(&properties.format);
            let mapping = self.catalogue.mapping(db, &table.name, kind, name).await?;
            let missing = || {
                AdxError::no_mapping(format!(
                    "BadRequest_MappingReferenceWasNotFound: no {kind} mapping '{name}' on table '{}'",
                    table.name
                ))
            };
            properties.mapping = Some(mapping.ok_or_else(missing)?);
        }
        Ok(())
    }

    /// Runs an operation to its end and notes it. Whatever goes wrong, it ends: whoever follows it would wait for ever.
    pub(crate) async fn run_ingestion(
        self: Arc<Self>,
        request: Request,
        table: Table,
        source: String,
        properties: Properties,
        operation: Operation,
        faults: Vec<Fault>,
    ) -> Result<Option<Extent>, IngestError> {
        let id = operation.id.clone();
        let result = Box::pin(self.clone().carry_out(request, table, source, properties, operation, faults)).await;
        if result.is_err() {
            for _ in 0..END_TRIES_MAX {
                match self.catalogue.end_open_operation(&id).await {
                    Ok(()) => break,
                    Err(error) => tracing::error!("operation {id} is not ended: {}", error.message),
                }
                tokio::time::sleep(END_WAIT).await;
            }
        }
        result
    }

    async fn carry_out(
        self: Arc<Self>,
        request: Request,
        table: Table,
        source: String,
        properties: Properties,
        mut operation: Operation,
        faults: Vec<Fault>,
    ) -> Result<Option<Extent>, IngestError> {
        let slot = self.slots.clone().acquire_owned().await;
        for fault in &faults {
            if let Fault::Slow(time) = fault {
                tokio::time::sleep(*time).await;
            }
        }
        let end = |operation: &mut Operation, state: &str, status: &str| {
            operation.updated_ticks = now_ticks();
            operation.state = state.to_owned();
            operation.status = status.to_owned();
        };
        if faults.contains(&Fault::OpThrottle) {
            end(
                &mut operation,
                "Throttled",
                "CommandType: 'DataIngestPull', Capacity: 1, Origin: 'CapacityPolicy/Ingestion'.",
            );
            self.catalogue.put_operation(&operation).await?;
            return Err(IngestError::asked_for());
        }
        if faults.contains(&Fault::OpError) {
            operation.should_retry = true;
            end(&mut operation, "Failed", "a failure that was asked for");
            self.catalogue.put_operation(&operation).await?;
            return Err(IngestError::asked_for());
        }
        // As in the service, nothing keeps two commands with one tag apart that run at the same time.
        let known = self.catalogue.extents(&request.db, &table.name).await?;
        let tags: Vec<_> = properties.if_not_exists.iter().map(|k| format!("ingest-by:{k}")).collect();
        if known.iter().any(|e| e.tags.iter().any(|t| tags.contains(t))) {
            end(&mut operation, "Skipped", "ingestIfNotExists matched a tag of the table");
            self.catalogue.put_operation(&operation).await?;
            return Ok(None);
        }
        let result = self.make_extent(&table, &source, properties).await;
        drop(slot);
        match result {
            Ok(extent) => {
                let state = if faults.contains(&Fault::OpAbandon) { "Abandoned" } else { "Completed" };
                end(&mut operation, state, "Extent(s) created; metadata updated; cluster map updated");
                let done = Ingested {
                    extent: Some(extent.clone()),
                    request_id: request.request_id.clone(),
                    duration_ticks: operation.updated_ticks - operation.started_ticks,
                    is_forgotten: faults.contains(&Fault::OpForget),
                };
                self.catalogue.commit_ingestion(&request.db, &table.name, &done, &operation).await?;
                Ok(Some(extent))
            }
            Err(error) => {
                operation.should_retry = !error.permanent;
                end(&mut operation, "Failed", &format!("{}: {}", error.code, error.details));
                let row = FailureRow {
                    operation: operation.id.clone(),
                    table: table.name.clone(),
                    at_ticks: operation.updated_ticks,
                    path: source.split('?').next().unwrap_or_default().to_owned(),
                    details: error.details.clone(),
                    permanent: error.permanent,
                    root: operation.root.clone(),
                    error_code: error.code.to_owned(),
                };
                self.catalogue.note_failure(&request.db, &row).await?;
                self.catalogue.put_operation(&operation).await?;
                Err(error)
            }
        }
    }

    async fn make_extent(&self, table: &Table, source: &str, properties: Properties) -> Result<Extent, IngestError> {
        let id = uuid::Uuid::new_v4().to_string();
        let path = self.catalogue.extent_path(&id);
        let (from, is_download) = ingest::fetch(&self.http, source, self.catalogue.download_path()).await?;
        let (name, table, to) = (source.to_owned(), table.clone(), path.clone());
        let (tags, created_ticks) = (properties.tags.clone(), properties.created_ticks);
        let decoded = tokio::task::spawn_blocking(move || {
            let result = ingest::decode(&from, &name, &to, &table, &properties);
            if is_download {
                let _ = std::fs::remove_file(&from);
            }
            result.map(|counts| (counts, table.name))
        });
        let decoded = decoded.await.map_err(|e| IngestError {
            code: "General_InternalServerError",
            details: e.to_string(),
            permanent: false,
        })?;
        match decoded {
            Ok(((rows, original_size), table)) => Ok(Extent {
                id,
                table,
                rows,
                original_size,
                extent_size: std::fs::metadata(&path).map_or(0, |m| m.len() as i64),
                created_ticks: created_ticks.unwrap_or_else(now_ticks),
                tags,
            }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

fn column_list(p: &mut Parser) -> Result<Vec<Column>, AdxError> {
    p.expect("(")?;
    let mut columns: Vec<Column> = Vec::new();
    loop {
        let name = p.name()?;
        p.expect(":")?;
        let kind = p.name()?;
        let Some(kind) = Kind::parse(&kind) else {
            return Err(AdxError::syntax(format!("Syntax error: '{kind}' is no type")));
        };
        if columns.iter().any(|c| c.name == name) {
            return Err(AdxError::bad_request(format!("Column '{name}' is named twice.")));
        }
        columns.push(Column { name, kind });
        if !p.sign(",") {
            p.expect(")")?;
            return Ok(columns);
        }
    }
}

/// A table with the columns that it lacks behind its own. Fails where a column has another type.
fn merged(mut table: Table, columns: Vec<Column>) -> Result<Table, AdxError> {
    for column in columns {
        match table.columns.iter().find(|c| c.name == column.name) {
            None => table.columns.push(column),
            Some(old) if old.kind == column.kind => {}
            Some(old) => {
                return Err(AdxError::bad_request(format!(
                    "Column '{}' of table '{}' has type {} and cannot become {}.",
                    old.name,
                    table.name,
                    old.kind.name(),
                    column.kind.name()
                )));
            }
        }
    }
    Ok(table)
}

fn source_list(p: &mut Parser) -> Result<Vec<String>, AdxError> {
    if !p.sign("(") {
        return Ok(vec![p.text()?]);
    }
    let mut sources = vec![p.text()?];
    while p.sign(",") {
        sources.push(p.text()?);
    }
    p.expect(")")?;
    Ok(sources)
}

/// The text of a command for the journal: up to its first parenthesis, since literals behind it may hold signatures.
fn without_literals(text: &str) -> String {
    match text.split_once('(') {
        Some((head, _)) => format!("{head}(...)"),
        None => text.to_owned(),
    }
}

/// Nothing may be left of a command before it changes anything.
fn expect_end(p: &Parser) -> Result<(), AdxError> {
    if p.is_at_end() { Ok(()) } else { p.fail("the end") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LocalAdx, LocalAdxConfig, Roles, faults::Faults};
    use serde_json::{Value, json};
    use tempfile::TempDir;

    async fn adx() -> (Arc<Adx>, TempDir) {
        // The client for downloads wants a provider, though nothing here goes over a network.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = LocalAdxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data: folder.path().join("data"),
            databases: Vec::new(),
            faults: Faults::default(),
            storage: None,
            login_endpoint: None,
            roles: Roles::default(),
        };
        (LocalAdx::open(config).await.unwrap().adx, folder)
    }

    async fn run(adx: &Arc<Adx>, text: &str) -> Result<Frame, AdxError> {
        let request = Request { db: "d".to_owned(), request_id: String::new(), root: uuid::Uuid::nil().to_string() };
        match adx.command(&request, text).await? {
            Outcome::Result(frame) => Ok(frame),
            Outcome::Broken => panic!("no fault was asked for"),
        }
    }

    async fn rows(adx: &Arc<Adx>, text: &str) -> Value {
        json!(run(adx, text).await.unwrap().json_rows())
    }

    #[tokio::test]
    async fn alter_merge_adds_columns_to_a_table_that_exists() {
        let (adx, _folder) = adx().await;
        let missing = run(&adx, ".alter-merge table T (a:string)").await.unwrap_err();
        assert_eq!(missing.code, "BadRequest_TableNotExist");
        let created = run(&adx, ".create-merge table T (a:string, b:int)").await.unwrap();
        let altered = run(&adx, ".alter-merge table T (b:int, ['odd name']:dynamic)").await.unwrap();
        assert_eq!(altered.names, created.names);
        assert_eq!(altered.json_rows(), [json!(["T", "a:string,b:int,['odd name']:dynamic", "d", "", ""])]);
        let refused = run(&adx, ".alter-merge table T (a:long)").await.unwrap_err();
        assert_eq!((refused.status, refused.permanent), (400, true));
        let shown = rows(&adx, ".show table T cslschema").await;
        assert_eq!(shown[0][1], "a:string,b:int,['odd name']:dynamic", "a refused change changes nothing");
    }

    #[tokio::test]
    async fn an_extent_is_as_old_as_its_creation_time() {
        let (adx, folder) = adx().await;
        let blob = folder.path().join("blob.csv");
        std::fs::write(&blob, "1\n").unwrap();
        run(&adx, ".create table T (a:int)").await.unwrap();
        let ingest = |properties: &str| {
            let path = blob.display().to_string();
            format!(".ingest into table T (@'{path}') with (format='csv', tags='[\"t\"]', {properties})")
        };
        let refused = run(&adx, &ingest("creationTime='soon'")).await.unwrap_err();
        assert_eq!((refused.status, refused.permanent), (400, true));
        assert_eq!(rows(&adx, ".show table T extents").await, json!([]), "nothing was ingested");
        run(&adx, &ingest("creationTime='2020-01-02T03:04:05.5+01:00'")).await.unwrap();
        let times = ".show table T extents | project MinCreatedOn, MaxCreatedOn";
        let time = "2020-01-02T02:04:05.5000000Z";
        assert_eq!(rows(&adx, times).await, json!([[time, time]]));
        run(&adx, &ingest("persistDetails=true")).await.unwrap();
        let shown = rows(&adx, times).await;
        assert_eq!(shown[0][0], time, "the oldest comes first");
        assert!(shown[1][0].as_str() > Some(time), "{shown}");
    }

    #[tokio::test]
    async fn an_operation_whose_end_cannot_be_noted_ends_all_the_same() {
        let (adx, folder) = adx().await;
        let blob = folder.path().join("blob.csv");
        std::fs::write(&blob, "1\n").unwrap();
        run(&adx, ".create table T (a:int)").await.unwrap();
        // The commit of an ingestion writes there.
        adx.catalogue.journal::<(i64,)>("DROP TABLE data_operations").await.unwrap();
        run(&adx, &format!(".ingest async into table T (@'{}') with (format='csv')", blob.display())).await.unwrap();
        let mut shown = Value::Null;
        for _ in 0..500 {
            shown = rows(&adx, ".show operations | project State, ShouldRetry").await;
            if shown[0][0] != "InProgress" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(shown[0][0], "Failed", "{shown}");
        assert_eq!(rows(&adx, ".show table T extents").await, json!([]), "nothing of it is in the table");
    }

    #[tokio::test]
    async fn a_mapping_is_found_by_the_kind_of_the_format() {
        let (adx, folder) = adx().await;
        let blob = folder.path().join("blob");
        std::fs::write(&blob, "[{\"x\":1}]").unwrap();
        run(&adx, ".create table T (a:int)").await.unwrap();
        let mapping = r#"'[{"Column":"a","Properties":{"Path":"$.x"}}]'"#;
        run(&adx, &format!(".create table T ingestion json mapping \"m\" {mapping}")).await.unwrap();
        let ingest = |format: &str| {
            let path = blob.display().to_string();
            format!(".ingest into table T (@'{path}') with (format='{format}', ingestionMappingReference='m')")
        };
        let missing = run(&adx, &ingest("parquet")).await.unwrap_err();
        assert_eq!(missing.code, "BadRequest_MappingReferenceWasNotFound");
        run(&adx, &ingest("multijson")).await.unwrap();
        assert_eq!(json!(adx.query("d", "T").await.unwrap().json_rows()), json!([[1]]));
    }

    #[tokio::test]
    async fn extents_are_found_by_whole_tags_or_parts_of_them() {
        let (adx, folder) = adx().await;
        let blob = folder.path().join("blob.csv");
        std::fs::write(&blob, "1\n").unwrap();
        run(&adx, ".create table T (a:int)").await.unwrap();
        let path = blob.display().to_string();
        let tags = r#"'["ingest-by:r/1/10"]'"#;
        run(&adx, &format!(".ingest into table T (@'{path}') with (format='csv', tags={tags})")).await.unwrap();
        for (filter, found) in [
            ("has 'ingest-by:r/1/10'", 1),
            ("has 'ingest-by:r/1/1'", 0),
            ("contains 'ingest-by:r/1/1'", 1),
            ("!has 'ingest-by:r/1/1'", 1),
            ("!contains 'R/1'", 0),
        ] {
            let extents = run(&adx, &format!(".show table T extents where tags {filter}")).await.unwrap();
            assert_eq!(extents.rows, found, "{filter}");
        }
    }
}
