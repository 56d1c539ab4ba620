//! What the sign-in may do on the cluster: one row a permission, as Data Factory's documentation lists them.
//!
//! There is no dry run of `.ingest`. Roles that the cluster shows are proof; a command for a blob that does not exist is
//! refused where the right is missing, and ingests nothing where it is not. That it was not refused proves nothing, since
//! nobody says in which order the cluster looks.

use super::{Answer, Area, Check, Opened, in_time, roles::Held, words};
use crate::{
    access::{Access, READ_TTL},
    core::Core,
    planner::parse_cslschema,
};
use ferry_common::activity::{Activity, Publish};
use ferry_kusto::{
    Engine, KustoError, RequestId, Table,
    commands::{self, Command, Ingest, IngestMapping, MappedColumn, MappedSource, TableColumn},
    text,
};

/// The database of commands that belong to none.
const NO_DATABASE: &str = "NetDefaultDB";
/// How names of what is made and removed again begin.
const TEMPORARY: &str = "ferry_check_";

/// Checks the cluster of an activity's sink.
pub(super) async fn look(core: &Core, activity: &Activity, opened: &Opened, tries: bool) -> Vec<Check> {
    let row = Check::new(Area::Cluster, "cluster answers", "everything").by("any").probed(".show version");
    let client = match &opened.client {
        Ok(client) => &**client,
        Err(failure) => {
            let remedy = "correct sink.endpoint or sink.auth, and run the check again for the rest";
            return vec![row.found(Answer::No, failure.to_string()).else_do(remedy)];
        }
    };
    let probes = Probes { client, activity };
    let began = tokio::time::Instant::now();
    let seen = probes.send(NO_DATABASE, &commands::show_version()).await;
    let answers = match &seen {
        Ok(_) => row.found(Answer::Yes, format!("{} in {} ms", client.endpoint(), began.elapsed().as_millis())),
        // It knows who asks, and says no.
        Err(e) if is_forbidden(e) => row
            .found(Answer::Unknown, words(e))
            .else_do("the sign-in is good and has no role anywhere: give it Table Ingestor on the table"),
        Err(e) => row.found(Answer::No, words(e)).else_do(remedy_of(e)),
    };
    let is_away = answers.result == Answer::No;
    let mut checks = vec![answers];
    // The other probes would each wait for the same.
    if !is_away {
        checks.extend(probes.permissions(core, opened, tries).await);
    }
    checks
}

fn remedy_of(error: &KustoError) -> &'static str {
    match error {
        KustoError::Endpoint { .. } => "correct sink.endpoint",
        KustoError::Token { .. } => "correct sink.auth, or reach Entra ID: the message says which",
        KustoError::Unreachable { .. } => {
            "is sink.endpoint right, the cluster started, its port open, the proxy right?"
        }
        KustoError::Lost { .. } => "something between here and the cluster breaks connections: proxy, firewall?",
        KustoError::Service(_) => "the cluster's own words say why",
    }
}

/// The right is missing; a sign-in that is not believed is something else.
fn is_forbidden(error: &KustoError) -> bool {
    error.service().is_some_and(|e| e.is_forbidden() && e.status != 401)
}

fn is_missing(error: &KustoError) -> bool {
    error.service().is_some_and(|e| e.is_entity_missing() && !e.is_database_missing())
}

/// Yes, no, or what else was said.
fn answer_of<T>(seen: &Result<T, KustoError>) -> (Answer, String) {
    match seen {
        Ok(_) => (Answer::Yes, String::new()),
        Err(e) if is_forbidden(e) => (Answer::No, words(e)),
        Err(e) => (Answer::Unknown, words(e)),
    }
}

/// What is known of the table.
struct Known {
    /// Its columns, if they are shown.
    columns: Option<Vec<TableColumn>>,
    exists: Answer,
    told: String,
}

struct Probes<'a> {
    client: &'a dyn Engine,
    activity: &'a Activity,
}

impl Probes<'_> {
    async fn send(&self, database: &str, command: &Command) -> Result<Table, KustoError> {
        let id = RequestId::generate("check");
        in_time(self.client, self.client.command(database, command, &id)).await.map(|reply| reply.table)
    }

    async fn here(&self, command: &Command) -> Result<Table, KustoError> {
        self.send(&self.activity.sink.database, command).await
    }

    async fn query(&self, kql: &str) -> Result<Table, KustoError> {
        let id = RequestId::generate("check");
        let database = &self.activity.sink.database;
        in_time(self.client, self.client.query(database, kql, &id)).await.map(|reply| reply.table)
    }

    async fn permissions(&self, core: &Core, opened: &Opened, tries: bool) -> Vec<Check> {
        let sink = &self.activity.sink;
        let mut held = Held::default();
        let of_database = self.here(&commands::show_database_roles(&sink.database)).await;
        of_database.iter().for_each(|table| held.add(table));
        let database = self.database(&of_database);
        if database.result == Answer::No {
            return vec![database];
        }
        let of_table = self.here(&commands::show_table_roles(&sink.table)).await;
        of_table.iter().for_each(|table| held.add(table));
        let schema = self.here(&commands::show_table_cslschema(&sink.table)).await;
        let known = known_of(&schema, &of_table);
        let tables = self.here(&commands::show_tables()).await;
        let ingest = self.ingest(core, opened, &held).await;

        let mut checks = vec![database, self.navigation().await, self.table(&known)];
        checks.push(test_connection(&tables, &ingest));
        let navigation =
            Check::new(Area::Cluster, "table navigation", "choosing the table from a list; it may be typed");
        checks.push(seen(navigation.by("Database Monitor").probed(".show tables"), &tables));
        checks.extend(self.queries(&known).await);
        let by_name = "holding names and types against the table before a byte is staged; a copy goes without";
        let by_name = Check::new(Area::Cluster, "by-name column mapping", by_name).by("Database Monitor");
        checks.push(match known.exists {
            Answer::No => by_name.optional().found(Answer::Unknown, "the table does not exist yet"),
            _ => seen(by_name.probed(".show table T cslschema"), &schema),
        });
        checks.push(self.mapping(&ingest, &known, tries).await);
        checks.push(ingest);
        if sink.create_table {
            checks.push(self.create_table(&held, &known, tries).await);
        }
        if sink.publish != Publish::Append {
            checks.push(self.publish(&held, &known, tries).await);
        }
        checks.extend(self.queue(core).await);
        checks
    }

    /// S59: that the cluster answers says nothing of the database.
    fn database(&self, of_database: &Result<Table, KustoError>) -> Check {
        let name = &self.activity.sink.database;
        let row = Check::new(Area::Cluster, "database exists", "everything").probed(".show database D principal roles");
        match of_database {
            Ok(_) => row.found(Answer::Yes, name),
            Err(e) if e.service().is_some_and(|e| e.is_database_missing()) => {
                row.found(Answer::No, words(e)).else_do("correct sink.database, or give the sign-in a role in it")
            }
            Err(e) => row.found(Answer::Unknown, words(e)),
        }
    }

    async fn navigation(&self) -> Check {
        let name = &self.activity.sink.database;
        let row =
            Check::new(Area::Cluster, "database navigation", "choosing the database from a list; it may be typed");
        let row = row.optional().by("Database Viewer").probed(".show databases");
        match self.send(NO_DATABASE, &commands::show_database_named(name)).await {
            Ok(table) if table.rows.is_empty() => {
                row.found(Answer::No, format!("the list that this sign-in is shown lacks {name:?}"))
            }
            Ok(_) => row.found(Answer::Yes, name),
            Err(e) if is_forbidden(&e) => row.found(Answer::No, words(&e)),
            Err(e) => row.found(Answer::Unknown, words(&e)),
        }
    }

    fn table(&self, known: &Known) -> Check {
        let sink = &self.activity.sink;
        let row = Check::new(Area::Cluster, "table exists", "copying into it");
        let row = row.probed(".show table T cslschema; .show table T principal roles");
        if sink.create_table && known.exists == Answer::No {
            return row.optional().found(Answer::Unknown, "not yet: sink.createTable makes it");
        }
        let row = row.found(known.exists, if known.exists == Answer::Yes { &sink.table } else { &known.told });
        row.else_do("create it, correct sink.table, or set sink.createTable: true")
    }

    /// S62, S63, S70: one query that gives no row shows all three.
    async fn queries(&self, known: &Known) -> Vec<Check> {
        let probe = "T | take 0";
        let found = if known.exists == Answer::No {
            (Answer::Unknown, "the table does not exist yet".to_owned())
        } else {
            answer_of(&self.query(&format!("{} | take 0", text::name(&self.activity.sink.table))).await)
        };
        [
            ("preview data", "looking at rows"),
            ("import schema", "reading the columns into an activity; they may be typed"),
            ("execute query", "the cluster as a source; copying into it needs none"),
        ]
        .into_iter()
        .map(|(name, needs)| {
            let row = Check::new(Area::Cluster, name, needs).optional().by("Database Viewer").probed(probe);
            row.found(found.0, found.1.clone())
        })
        .collect()
    }

    /// S69.
    async fn ingest(&self, core: &Core, opened: &Opened, held: &Held) -> Check {
        let sink = &self.activity.sink;
        let row = Check::new(Area::Cluster, "ingest data", "copying");
        let row = row.by("Table Ingestor or Database Admin");
        let remedy = format!(".add table {} ingestors ('aadapp=CLIENT;TENANT')", text::name(&sink.table));
        if let Some(role) = held.ingests() {
            return row.probed("roles of this sign-in").found(Answer::Yes, role);
        }
        let row = row.probed("roles of this sign-in; .ingest of a blob that does not exist");
        let absent = opened.access.as_ref().map_err(Clone::clone);
        let absent = absent.and_then(|access: &Access| {
            let name = format!("{TEMPORARY}{}/absent.csv", uuid::Uuid::new_v4().simple());
            access.for_cluster(&name, core.now().plus(READ_TTL))
        });
        let source = match absent {
            Ok(source) => source,
            Err(failure) => {
                let why = format!("{}; without staging no command can be tried: {}", held.told(), failure.message);
                return row.found(Answer::Unknown, why);
            }
        };
        let nothing = Ingest {
            table: sink.table.clone(),
            source,
            format: "csv",
            mapping: IngestMapping::None,
            ingest_by: format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()),
            strict_width: false,
            creation_time: None,
        };
        match self.here(&commands::ingest(&nothing)).await {
            Err(e) if is_forbidden(&e) => row.found(Answer::No, words(&e)).else_do(remedy),
            Err(e) => row.found(Answer::Unknown, format!("{}; {}", held.told(), words(&e))),
            Ok(_) => {
                let why = "the command was not refused, which alone is no proof; a role through a group is not shown";
                row.found(Answer::Unknown, format!("{}; {why}", held.told()))
            }
        }
    }

    /// S67, S68. Who may ingest may do this, too.
    async fn mapping(&self, ingest: &Check, known: &Known, tries: bool) -> Check {
        let needs = "Data Factory's way of mapping by name; ferry sends mappings along with its commands";
        let row = Check::new(Area::Cluster, "create and drop a mapping", needs).optional();
        let row = row.by("Table Ingestor or Database Admin");
        if !tries || known.exists == Answer::No {
            let row = row.probed("the same roles as ingesting");
            return match ingest.result {
                Answer::Unknown => {
                    row.found(Answer::Unknown, "no probe tells without a change; --try makes and drops one")
                }
                answer => row.found(answer, ingest.detail.clone()),
            };
        }
        let row = row.probed("a mapping is made and dropped");
        let table = &self.activity.sink.table;
        let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
        let column = known.columns.as_ref().and_then(|columns| columns.first()).map_or("a", |c| c.name.as_str());
        let mapped = MappedColumn { column: column.to_owned(), kind: None, source: MappedSource::Ordinal(0) };
        let made = self.here(&commands::create_csv_mapping(table, &name, &[mapped])).await;
        if made.is_err() {
            return seen(row, &made);
        }
        match self.here(&commands::drop_csv_mapping(table, &name)).await {
            Ok(_) => row.found(Answer::Yes, "made and dropped"),
            Err(e) => row.found(Answer::No, format!("mapping {name} was made and stays: {}", words(&e))),
        }
    }

    async fn create_table(&self, held: &Held, known: &Known, tries: bool) -> Check {
        let row = Check::new(Area::Cluster, "create or extend the table", "sink.createTable");
        let row = row.by("Database User; to extend a table, Table Admin").probed("roles of this sign-in");
        let is_there = known.exists == Answer::Yes;
        let role = held.creates_tables().filter(|_| !is_there || held.manages_table().is_some());
        if let Some(role) = role {
            return row.found(Answer::Yes, role);
        }
        match &known.columns {
            // The columns that it has are no change.
            Some(columns) if tries => {
                let row = row.probed(".create-merge table T with the columns that it has");
                let made = self.here(&commands::create_merge_table(&self.activity.sink.table, columns)).await;
                let (answer, detail) = answer_of(&made);
                row.found(answer, detail).else_do("give the role, or create the table and leave sink.createTable out")
            }
            _ => row.found(Answer::Unknown, format!("{}; --try tells for a table that is there", held.told())),
        }
    }

    async fn publish(&self, held: &Held, known: &Known, tries: bool) -> Check {
        let row = Check::new(Area::Cluster, "make and move a staging table", "sink.publish atomic and replace");
        let row = row.by("Database User and Table Admin").probed("roles of this sign-in");
        if let (Some(creates), Some(manages)) = (held.creates_tables(), held.manages_table()) {
            let told = if creates == manages { creates.to_owned() } else { format!("{creates}, {manages}") };
            return row.found(Answer::Yes, told);
        }
        let Some(columns) = known.columns.as_ref().filter(|_| tries) else {
            return row.found(Answer::Unknown, format!("{}; --try makes, moves and drops one", held.told()));
        };
        let row = row.probed("a staging table is made, nothing of it moved, and dropped");
        let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
        let made = self.here(&commands::create_staging_table(&name, columns, "of ferry check")).await;
        if made.is_err() {
            let (answer, detail) = answer_of(&made);
            return row.found(answer, detail).else_do("give the role Database User, or set sink.publish: append");
        }
        let moved = self.here(&commands::try_move_extents(&name, &self.activity.sink.table)).await;
        let dropped = self.here(&commands::drop_table(&name)).await;
        let (answer, mut detail) = answer_of(&moved);
        if let Err(e) = dropped {
            detail = format!("{detail}; table {name} could not be dropped again: {}", words(&e));
        }
        row.found(answer, detail).else_do("give the role Table Admin on the table, or set sink.publish: append")
    }

    /// Where blobs are handed over, with `ingestion: queued`.
    async fn queue(&self, core: &Core) -> Option<Check> {
        let row = Check::new(Area::Cluster, "queued ingestion", "sink.ingestion: queued").by("Table Ingestor");
        let row = row.probed(".get ingestion resources");
        let queue = match core.sinks.open_queue(self.activity, super::CLUSTER_TIMEOUT) {
            Ok(queue) => queue?,
            Err(failure) => return Some(row.found(Answer::No, failure.message)),
        };
        Some(match in_time(self.client, queue.look()).await {
            Ok(()) => row.found(Answer::Yes, ""),
            Err(e) => row.found(Answer::No, words(&e)).else_do(
                "is ingest-CLUSTER reachable, and has the sign-in Table Ingestor? Or set sink.ingestion: direct",
            ),
        })
    }
}

/// An optional check that is what its probe says.
fn seen<T>(row: Check, seen: &Result<T, KustoError>) -> Check {
    let (answer, detail) = answer_of(seen);
    row.optional().found(answer, detail)
}

fn known_of(schema: &Result<Table, KustoError>, of_table: &Result<Table, KustoError>) -> Known {
    match (schema, of_table) {
        (Ok(table), _) => {
            let columns = table.rows.first().map(|row| parse_cslschema(table.text(row, "Schema")));
            Known { columns, exists: Answer::Yes, told: String::new() }
        }
        (Err(e), _) | (_, Err(e)) if is_missing(e) => Known { columns: None, exists: Answer::No, told: words(e) },
        (_, Ok(_)) => Known { columns: None, exists: Answer::Yes, told: String::new() },
        (Err(e), _) => Known { columns: None, exists: Answer::Unknown, told: words(e) },
    }
}

/// S58, S60: whoever may do neither cannot copy, though the cluster answers.
fn test_connection(tables: &Result<Table, KustoError>, ingest: &Check) -> Check {
    let row = Check::new(Area::Cluster, "test connection", "a sign-in that is good for something");
    let row = row.by("Database Monitor or Table Ingestor").probed(".show tables, or the right to ingest");
    match (answer_of(tables), ingest.result) {
        ((Answer::Yes, _), _) => row.found(Answer::Yes, "it may see the tables"),
        (_, Answer::Yes) => row.found(Answer::Yes, "it may ingest"),
        ((Answer::No, why), Answer::No) => row.found(Answer::No, why).else_do("give it one of the roles"),
        ((_, why), _) => row.found(Answer::Unknown, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_kusto::ServiceError;

    fn error(status: u16, exception: &str) -> KustoError {
        KustoError::Service(ServiceError {
            status,
            code: String::new(),
            exception: exception.to_owned(),
            message: "m".to_owned(),
            permanent: true,
            activity_id: String::new(),
            retry_after: None,
        })
    }

    #[test]
    fn a_refusal_is_no_and_everything_else_that_fails_is_unknown() {
        for (case, seen, answer) in [
            ("an answer", Ok(()), Answer::Yes),
            ("the role is missing", Err(error(403, "KustoRequestDeniedException")), Answer::No),
            ("the token is bad", Err(error(401, "")), Answer::Unknown),
            ("no such thing here", Err(error(400, "KustoBadRequestException")), Answer::Unknown),
            ("it fails", Err(error(500, "")), Answer::Unknown),
        ] {
            assert_eq!(answer_of(&seen).0, answer, "{case}");
        }
    }

    #[test]
    fn a_table_that_is_hidden_may_be_known_by_its_roles() {
        let (hidden, missing) = (|| Err(error(403, "")), || Err(error(400, "TableNotFoundException")));
        let there = || Ok(Table::default());
        for (case, schema, roles, exists) in [
            ("shown", there(), hidden(), Answer::Yes),
            ("its roles are shown", hidden(), there(), Answer::Yes),
            ("missing", missing(), missing(), Answer::No),
            ("missing by its roles", hidden(), missing(), Answer::No),
            ("hidden", hidden(), hidden(), Answer::Unknown),
        ] {
            assert_eq!(known_of(&schema, &roles).exists, exists, "{case}");
        }
    }

    #[test]
    fn a_connection_is_good_when_something_may_be_done_with_it() {
        let ingest = |answer| Check::new(Area::Cluster, "", "").found(answer, "");
        let (shown, hidden) = (|| Ok(Table::default()), || Err(error(403, "")));
        for (tables, may_ingest, answer) in [
            (shown(), Answer::No, Answer::Yes),
            (hidden(), Answer::Yes, Answer::Yes),
            (hidden(), Answer::No, Answer::No),
            (hidden(), Answer::Unknown, Answer::Unknown),
        ] {
            assert_eq!(test_connection(&tables, &ingest(may_ingest)).result, answer);
        }
    }
}
