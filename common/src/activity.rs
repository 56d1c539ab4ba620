//! A copy activity as data: what to copy, from where, to where, and how. Words and names are Data Factory's where it has
//! them. Secrets never stand in it, only references to them.

mod after;
mod webhook;

pub use after::AfterCompletion;
pub use webhook::Webhook;

use crate::{
    address::leads_here,
    failure::{Code, Failure},
    id::RuntimeName,
    scalar::ScalarType,
    timetable::Timetable,
    vault::VaultSecret,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest activity that is read, in bytes.
pub const ACTIVITY_BYTES_MAX: usize = 1 << 20;
/// Bytes in the megabyte that `chunkSizeMB` counts.
const MEGABYTE: f64 = 1_000_000.0;
/// Azure Data Explorer takes files of at most 6 GB, uncompressed.
const CHUNK_MB_MAX: f64 = 6_000.0;

/// A copy activity: one source of files into one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Activity {
    /// Name of the activity, for people.
    pub name: String,
    /// What to read.
    pub source: Source,
    /// Where the rows go.
    pub sink: Sink,
    /// Where chunks wait for the table.
    pub staging: Staging,
    /// How to copy.
    #[serde(default)]
    pub settings: Settings,
}

/// Kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceType {
    /// Files in a folder that the nodes can reach.
    FileSystem,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Kind of source.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Integration runtime whose nodes can reach the source.
    #[serde(default)]
    #[schemars(with = "String")]
    pub connect_via: RuntimeName,
    /// Absolute folder, below a root that the nodes allow.
    pub folder_path: String,
    /// One file of that folder, by its relative path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Pattern of relative paths: `*`, `?`, `[..]`, `{a,b}`, and `**` for any number of folders. Without a `/` it is
    /// matched against file names at any depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wildcard_file_name: Option<String>,
    /// Text file with one relative path a line; only these files are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_list_path: Option<String>,
    /// Patterns of files to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Read folders below the folder, too.
    #[serde(default = "yes")]
    pub recursive: bool,
    /// Only files modified at this time or later (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub modified_datetime_start: Option<jiff::Timestamp>,
    /// Only files modified before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub modified_datetime_end: Option<jiff::Timestamp>,
    /// Leave out files that were modified less than this ago, such as `2m`: somebody may still be writing them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_age: Option<String>,
    /// Only files that are said to be complete: with `.done`, those beside which a file of their name and this ending lies; with a name
    /// such as `_SUCCESS`, those in folders that have a file of that name. The markers themselves are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_marker: Option<String>,
    /// A run that finds no file succeeds and copies nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_no_files: bool,
    /// Delete the files that were loaded, when the run has succeeded. The nodes must allow it: `--allow-source-changes`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_files_after_completion: bool,
    /// Move the files that were loaded below this folder, when the run has succeeded: absolute, below a root that the nodes allow, on
    /// the same file system. Paths below `folderPath` are kept. The nodes must allow it: `--allow-source-changes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_files_after_completion: Option<String>,
    /// Leave out file versions that an earlier run with this setting has loaded into the same table. A file of another size or time
    /// of modification is another version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_loaded_files: bool,
    /// How the files are written.
    pub format: Format,
    /// Columns to add to each record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_columns: Vec<AdditionalColumn>,
    /// Folders named `key=value` become columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_partition_discovery: bool,
}

/// Formats of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FormatType {
    /// Delimited text, as RFC 4180 has it: fields may be quoted and hold line ends.
    DelimitedText,
    /// JSON objects: one a line, one after the other, or in one array.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Apache Avro object container files.
    Avro,
    /// Apache ORC.
    Orc,
    /// W3C extended log files, as web servers write them.
    W3CLog,
    /// Text whose columns have fixed widths.
    FixedWidthText,
    /// Lines of text: one column, one record a line.
    TextLines,
    /// Workbooks: xlsx, xlsb, xls, ods.
    Excel,
    /// XML: one record an element.
    Xml,
}

/// What the records of a format are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Fields in an order.
    Fields,
    /// JSON objects.
    Objects,
    /// Typed columns.
    Columns,
}

impl FormatType {
    /// What its records are made of.
    pub fn shape(self) -> Shape {
        match self {
            Self::DelimitedText | Self::W3CLog | Self::FixedWidthText | Self::TextLines | Self::Excel => Shape::Fields,
            Self::Json | Self::Xml => Shape::Objects,
            Self::Parquet | Self::Avro | Self::Orc => Shape::Columns,
        }
    }

    /// The file is text, in some encoding.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Avro | Self::Orc | Self::Excel)
    }
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompressionType {
    /// Not at all.
    None,
    /// gzip, of one member or several.
    Gzip,
    /// zlib or raw deflate.
    Deflate,
    /// bzip2.
    Bzip2,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// LZ4 frames.
    Lz4,
    /// Snappy frames.
    Snappy,
    /// A zip archive: each member is a file.
    Zip,
    /// A tar archive: each member is a file.
    Tar,
    /// A tar archive in gzip.
    TarGzip,
}

/// How a file is packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compression {
    /// The packing.
    #[serde(rename = "type")]
    pub kind: CompressionType,
}

/// One column of a text with fixed widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FixedColumn {
    /// Name of the column.
    pub name: String,
    /// Its characters.
    pub width: u32,
    /// Where it begins, from 0; default: after the column before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
}

/// How the files are written. Compression is told by a file's name, then by its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Format {
    /// The format.
    #[serde(rename = "type")]
    pub kind: FormatType,
    /// How the files are packed; default: as name and content say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Text: its encoding, by its name on the web, such as `windows-1252`. Default `UTF-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_name: Option<String>,
    /// Delimited text: what separates fields. Default `,`; empty: nothing does, a line is one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column_delimiter: Option<String>,
    /// Delimited text: what encloses fields, one character. Default `"`; empty: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_char: Option<String>,
    /// Delimited text: what makes the next character mean itself, one character, such as `\\`. Default: none; a quote
    /// between quotes is written twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escape_char: Option<String>,
    /// Delimited text: what ends a record: `\r` for files of old Macs. Default: LF or CRLF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_delimiter: Option<String>,
    /// Delimited text: lines that begin with this character are left out. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment_char: Option<String>,
    /// Delimited text: a field of this text, without quotes, is null. Default: the empty field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_value: Option<String>,
    /// Text: non-empty lines to leave out at the start of each file, before the header row. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_line_count: Option<u32>,
    /// Delimited text and Excel: the first record of each file names the columns. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_row_as_header: Option<bool>,
    /// Delimited text: a record with another number of fields than the first one is bad. Default true; when false,
    /// missing fields become null and fields too many are dropped by the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_column_count: Option<bool>,
    /// Text with fixed widths: its columns, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<FixedColumn>,
    /// Excel: name of the sheet. Default: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sheet_name: Option<String>,
    /// Excel: number of the sheet, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sheet_index: Option<u32>,
    /// Excel: cells to read, such as `A3:F` or `B2:D100`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// XML: the element that is a record, as `catalog/book` from the root, or by its name alone. Default: the root's
    /// children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_element: Option<String>,
}

impl Format {
    /// Bytes between fields; empty: a line is one field.
    pub fn delimiter(&self) -> Vec<u8> {
        self.column_delimiter.as_deref().map_or_else(|| b",".to_vec(), unescaped)
    }

    /// Byte around fields.
    pub fn quote(&self) -> Option<u8> {
        self.quote_char.as_deref().map_or(Some(b'"'), |text| unescaped(text).first().copied())
    }

    /// Byte that makes the next one mean itself, where that is not a quote written twice.
    pub fn escape(&self) -> Option<u8> {
        let escape = unescaped(self.escape_char.as_deref()?).first().copied();
        escape.filter(|e| Some(*e) != self.quote())
    }

    /// Byte that begins a line to leave out.
    pub fn comment(&self) -> Option<u8> {
        unescaped(self.comment_char.as_deref()?).first().copied()
    }

    /// Records end with a carriage return alone.
    pub fn ends_with_carriage_return(&self) -> bool {
        self.row_delimiter.as_deref().map(unescaped).is_some_and(|d| d == b"\r")
    }

    /// Each file begins with a record of column names.
    pub fn has_header(&self) -> bool {
        matches!(self.kind, FormatType::DelimitedText | FormatType::Excel) && self.first_row_as_header.unwrap_or(false)
    }

    /// The columns of a file have names, in the file or in the settings.
    pub fn has_names(&self) -> bool {
        self.has_header() || !matches!(self.kind, FormatType::DelimitedText | FormatType::Excel | FormatType::TextLines)
    }

    /// Every record must have as many fields as the first.
    pub fn is_strict(&self) -> bool {
        self.strict_column_count.unwrap_or(true)
    }
}

/// A text as people write it in YAML without quotes: `\t`, `\n`, `\r`, `\\`, `\0`.
fn unescaped(text: &str) -> Vec<u8> {
    match text {
        "\\t" => vec![b'\t'],
        "\\n" => vec![b'\n'],
        "\\r" => vec![b'\r'],
        "\\r\\n" => b"\r\n".to_vec(),
        // As Data Factory has it: no delimiter.
        "\\0" | "\0" => Vec::new(),
        other => other.as_bytes().to_vec(),
    }
}

/// A column that no file has: its value is the same for all records of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdditionalColumn {
    /// Its name, as a source column.
    pub name: String,
    /// Its value: `$$FILEPATH` (below the folder), `$$FILENAME`, `$$COLUMN:x` (a second time the column x), or a text.
    pub value: String,
}

/// Kinds of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SinkType {
    /// Azure Data Explorer.
    AzureDataExplorer,
    /// The old name of Azure Data Explorer, refused with a hint.
    #[schemars(skip)]
    Kusto,
}

/// Where the rows go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Kind of sink.
    #[serde(rename = "type")]
    pub kind: SinkType,
    /// Address of the cluster, such as `https://adx.westeurope.kusto.windows.net`.
    pub endpoint: String,
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Create the table, or add missing columns, from the source's columns and a sample of its values.
    #[serde(default)]
    pub create_table: bool,
    /// Which column goes where.
    #[serde(default)]
    pub mapping: Mapping,
    /// What to do with source columns that the table lacks.
    #[serde(default)]
    pub schema_drift: SchemaDrift,
    /// The date that the rows' extents get, for retention and caching. Default: the time of ingestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<CreationTime>,
    /// How rows become visible.
    #[serde(default)]
    pub publish: Publish,
    /// How the cluster is told to ingest.
    #[serde(default)]
    pub ingestion: Ingestion,
    /// How to sign in to the cluster.
    #[serde(default)]
    pub auth: Auth,
}

/// What to do with source columns that the table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SchemaDrift {
    /// Fail, naming them.
    #[default]
    Fail,
    /// Add them to the table.
    AddColumns,
    /// Leave them out.
    Ignore,
}

/// The date that the rows' extents get: one of `pathPattern`, `column`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreationTime {
    /// Pattern of relative paths with `{yyyy}`, `{MM}`, `{dd}`, `{HH}`, `{mm}`, `{ss}`, such as `**/{yyyy}/{MM}/{dd}/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_pattern: Option<String>,
    /// Source column with the date of each row. A chunk ends where the day changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// How rows become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Publish {
    /// Command by command, each exactly once.
    #[default]
    Append,
    /// All rows at once or none.
    Atomic,
    /// As atomic, in place of what the table held.
    Replace,
}

/// How the cluster is told to ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Ingestion {
    /// By commands to the engine, followed to their end.
    #[default]
    Direct,
    /// Through the data management service, which ingests in its own time. Delivery is at least once; each blob carries a tag by which a second delivery is passed over, unless both run at the same time.
    Queued,
}

/// How to sign in to the cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// Kind of sign-in.
    #[serde(rename = "type", default)]
    pub kind: AuthType,
    /// The token, with `type: bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The tenant, with `type: servicePrincipal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The application's id (client id), with `type: servicePrincipal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal_id: Option<String>,
    /// The application's secret, with `type: servicePrincipal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal_key: Option<SecretRef>,
    /// The application's certificate and its key instead of a secret, with `type: servicePrincipal`: PEM, RSA. A file is read again
    /// whenever a token is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal_certificate: Option<SecretRef>,
    /// Client id of a user-assigned identity, with `type: managedIdentity`. Default: the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

impl Auth {
    /// The secrets that it names, each with its key.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretRef)> {
        let all = [
            ("token", &self.token),
            ("servicePrincipalKey", &self.service_principal_key),
            ("servicePrincipalCertificate", &self.service_principal_certificate),
        ];
        all.into_iter().filter_map(|(key, reference)| Some((key, reference.as_ref()?)))
    }

    /// The secret that it stands on; one at most goes with each kind.
    pub fn secret(&self) -> Option<&SecretRef> {
        self.secrets().next().map(|(_, reference)| reference)
    }

    /// What is wrong with it; `at` says where it stands.
    fn check(&self, at: &str) -> Result<(), String> {
        let is_principal = self.kind == AuthType::ServicePrincipal;
        let is_managed = self.kind == AuthType::ManagedIdentity;
        let name = self.kind.name();
        for (key, is_given, wants, needs) in [
            ("token", self.token.is_some(), self.kind == AuthType::Bearer, true),
            ("tenant", self.tenant.is_some(), is_principal, true),
            ("servicePrincipalId", self.service_principal_id.is_some(), is_principal, true),
            ("servicePrincipalKey", self.service_principal_key.is_some(), is_principal, false),
            ("servicePrincipalCertificate", self.service_principal_certificate.is_some(), is_principal, false),
            ("clientId", self.client_id.is_some(), is_managed, false),
        ] {
            if is_given && !wants {
                return Err(format!("{at}: {key} does not go with type: {name}"));
            }
            if wants && needs && !is_given {
                return Err(format!("{at}: type {name} needs {key}"));
            }
        }
        if is_principal && self.service_principal_key.is_some() == self.service_principal_certificate.is_some() {
            return Err(format!(
                "{at}: type {name} needs servicePrincipalKey or servicePrincipalCertificate, one of them"
            ));
        }
        Ok(())
    }
}

/// Kinds of sign-in to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthType {
    /// None; only for addresses of this machine.
    #[default]
    None,
    /// A given bearer token.
    Bearer,
    /// An application of Entra ID with a secret or a certificate.
    ServicePrincipal,
    /// The managed identity of the Azure machine that the coordinator runs on.
    ManagedIdentity,
    /// The workload identity of the coordinator's Kubernetes service account.
    WorkloadIdentity,
    /// Whoever signed in with `az login` where the coordinator runs.
    AzureCli,
}

impl AuthType {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer => "bearer",
            Self::ServicePrincipal => "servicePrincipal",
            Self::ManagedIdentity => "managedIdentity",
            Self::WorkloadIdentity => "workloadIdentity",
            Self::AzureCli => "azureCli",
        }
    }
}

/// Names a secret: `{secret: env:NAME}`, `{secret: file:/path}` or `{secret: keyvault:https://NAME.vault.azure.net/secrets/SECRET}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// `env:NAME`, `file:PATH` or `keyvault:ADDRESS`.
    pub secret: String,
}

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace<'a> {
    /// A variable of the program's environment.
    Variable(&'a str),
    /// A file.
    File(&'a str),
    /// A Key Vault of Azure: for the coordinator alone, who signs in there.
    Vault(VaultSecret),
}

impl SecretRef {
    /// Where the secret is, or what is wrong with the reference. That text may be the secret itself, and is not repeated.
    pub fn place(&self) -> Result<SecretPlace<'_>, String> {
        match self.secret.split_once(':') {
            Some(("env", name)) => Ok(SecretPlace::Variable(name)),
            Some(("file", path)) => Ok(SecretPlace::File(path)),
            Some(("keyvault", address)) => VaultSecret::parse(address).map(SecretPlace::Vault),
            _ => Err("a secret must be named as {secret: env:NAME}, {secret: file:PATH} or {secret: keyvault:ADDRESS}"
                .to_owned()),
        }
    }

    /// Reads the secret, where that needs no sign-in. Fails with [`Code::SecretMissing`], naming the reference and never the
    /// secret.
    pub fn resolve(&self) -> Result<Secret, Failure> {
        let missing = |why: String| Failure::settings(Code::SecretMissing, format!("secret {}: {why}", self.secret));
        let text = match self.place().map_err(|why| Failure::settings(Code::SecretMissing, why))? {
            SecretPlace::Variable(name) => std::env::var(name)
                .map_err(|_| missing(format!("environment variable {name} is not set for this program")))?,
            SecretPlace::File(path) => read_secret_file(path).map_err(missing)?,
            SecretPlace::Vault(_) => {
                return Err(missing(
                    "Key Vault is asked by the coordinator, for sink and staging; name this one as env:NAME or file:PATH".to_owned(),
                ));
            }
        };
        let text = text.trim();
        if text.is_empty() { Err(missing("is empty".to_owned())) } else { Ok(Secret(text.to_owned())) }
    }
}

/// A secret's file, which is a small one: whoever names it may be mistaken, or mean ill.
fn read_secret_file(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    // Asked before it is opened: a pipe would be waited for.
    let about = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !about.is_file() || about.len() > SECRET_BYTES_MAX {
        return Err(format!("is no file of at most {SECRET_BYTES_MAX} bytes"));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

/// Which source column goes to which table column: one of `by`, `columns`, `reference`. Default: by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// Columns of the same name; by order where the source has no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<MappingBy>,
    /// One entry a table column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<ColumnMapping>>,
    /// Name of an ingestion mapping that the table has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// JSON and XML: path of an array; each of its elements makes a record. Paths that begin with `$` still mean the
    /// whole record, others mean the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_reference: Option<String>,
    /// Arrays and objects may go into string columns, as JSON text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub map_complex_values_to_string: bool,
    /// How values are brought to the columns' types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_conversion_settings: Option<TypeConversionSettings>,
}

/// How values are brought to the columns' types.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TypeConversionSettings {
    /// A value may lose what its column cannot hold: fractions of whole numbers, digits below 100 ns, the end of a
    /// text. Default false: such a value is bad.
    #[serde(default)]
    pub allow_data_truncation: bool,
    /// Booleans become 1 and 0 in columns of numbers.
    #[serde(default)]
    pub treat_boolean_as_number: bool,
    /// How dates are written, such as `dd/MM/yyyy HH:mm:ss`. Default: as the cluster reads them (ISO 8601 and others).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_time_format: Option<String>,
}

/// Ways to map without naming columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MappingBy {
    /// Columns of the same name, letter case included.
    Name,
}

/// One column's mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColumnMapping {
    /// What to read.
    pub source: ColumnSource,
    /// Where it goes.
    pub sink: ColumnSink,
}

/// A column of the source: by `name`, by `ordinal` (from 1), or by JSON `path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColumnSource {
    /// Name in the header row, or a property of the JSON record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Position, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// JSON path, such as `$.a.b`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How dates of this column are written, such as `dd/MM/yyyy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ColumnSink {
    /// Name.
    pub name: String,
    /// Type, where the table is created; default: as the sample shows, or `string`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Kinds of staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StagingType {
    /// A container of Azure Blob Storage.
    AzureBlob,
    /// A container that the cluster lends: for whoever has no storage account. Its signature goes to nodes as the cluster gives
    /// it, and what may not be swept stays until the cluster deletes it.
    FromCluster,
    /// A folder that nodes and cluster both reach: for local-adx and the emulator.
    FileSystem,
}

/// Where chunks wait for the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Staging {
    /// Kind of staging.
    #[serde(rename = "type")]
    pub kind: StagingType,
    /// Azure Blob: address of the container, without a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Azure Blob: key of the storage account; ferry signs short-lived access with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_key: Option<SecretRef>,
    /// Azure Blob: a shared access signature for the container with rights `rcwdl`, instead of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sas: Option<SecretRef>,
    /// Azure Blob: an identity of Entra ID that may write to the container, instead of key or signature. Nodes and cluster get
    /// signatures that are made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// File system: the folder, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_path: Option<String>,
    /// What the storage service verifies of each block.
    #[serde(default)]
    pub integrity: Integrity,
}

/// What the storage service verifies of each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Integrity {
    /// A CRC-64 where the service knows it (Azure does), else an MD5.
    #[default]
    Auto,
    /// A CRC-64.
    Crc64,
    /// An MD5.
    Md5,
    /// Nothing.
    None,
}

/// How staged chunks of text are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StagedCompression {
    /// gzip, one member a chunk.
    #[default]
    Gzip,
    /// Not at all: for fast links.
    None,
}

/// How to copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Largest chunk, in megabytes (1,000,000 bytes) of records before compression.
    #[serde(rename = "chunkSizeMB")]
    pub chunk_size_mb: f64,
    /// Most files that are copied at once, over all nodes; default: as many as there are slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_copies: Option<u32>,
    /// Runs of a higher priority get free slots first, -100 to 100; equal ones share.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Bytes a second that the run sends to staging at most, over all nodes: `20M`, or `08:00,2M 18:30,off` by the local
    /// time of the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Timetable>,
    /// Leave out rows that do not fit, and keep them in the quarantine, instead of failing the file.
    pub enable_skip_incompatible_row: bool,
    /// Rows that may be left out of a run before it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_rows_max: Option<u64>,
    /// Per cent of a run's rows that may be left out before it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_rows_percent_max: Option<f64>,
    /// Leave out files that cannot be read instead of failing the run.
    pub skip_error_file: bool,
    /// Check each value against the type of its column. The cluster would make it null without a word.
    pub check_values: bool,
    /// Copy parts of one large file on several nodes at once.
    pub split_large_files: bool,
    /// Stage many small files together.
    pub pack_small_files: bool,
    /// How staged chunks of text are compressed.
    pub compression: StagedCompression,
    /// Tries at a file that may be the file's own fault, before the run fails.
    pub attempts_max: u32,
    /// gzip level of staged chunks, 1 (fast) to 9 (small).
    pub compression_level: u32,
    /// Who is told of the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chunk_size_mb: 900.0,
            parallel_copies: None,
            priority: 0,
            bandwidth: None,
            enable_skip_incompatible_row: false,
            skip_rows_max: None,
            skip_rows_percent_max: None,
            skip_error_file: false,
            check_values: true,
            split_large_files: false,
            pack_small_files: true,
            compression: StagedCompression::Gzip,
            attempts_max: 4,
            compression_level: 1,
            webhook: None,
        }
    }
}

impl Settings {
    /// Largest chunk in bytes before compression.
    pub fn chunk_bytes_max(&self) -> u64 {
        (self.chunk_size_mb * MEGABYTE) as u64
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

impl Activity {
    /// Reads an activity from YAML or JSON and checks it. `origin` names the text in messages, such as its file.
    ///
    /// Fails with [`Code::SettingsInvalid`], naming key, line and the nearest known key.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let activity: Self = parse_settings(text, origin)?;
        activity.check().map_err(|why| Failure::settings(Code::SettingsInvalid, format!("{origin}: {why}")))?;
        Ok(activity)
    }

    /// The JSON Schema of an activity, for editors.
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }

    fn check(&self) -> Result<(), String> {
        let mut secrets = Vec::new();
        for (at, auth) in [("sink.auth", Some(&self.sink.auth)), ("staging.auth", self.staging.auth.as_ref())] {
            let named = auth.into_iter().flat_map(Auth::secrets);
            secrets.extend(named.map(|(key, reference)| (format!("{at}.{key}"), reference)));
        }
        let of_webhook = self.settings.webhook.as_ref().and_then(|webhook| webhook.secret.as_ref());
        for (at, reference) in [
            ("staging.accountKey", self.staging.account_key.as_ref()),
            ("staging.sas", self.staging.sas.as_ref()),
            ("settings.webhook.secret", of_webhook),
        ] {
            secrets.extend(reference.map(|reference| (at.to_owned(), reference)));
        }
        if let Some(reference) = of_webhook {
            webhook::check_secret(reference)?;
        }
        for (at, reference) in secrets {
            reference.place().map_err(|why| format!("{at}: {why}"))?;
        }
        self.source.check()?;
        self.sink.check(&self.source)?;
        self.staging.check()?;
        if self.sink.ingestion == Ingestion::Queued && self.staging.kind == StagingType::FileSystem {
            return Err(
                "sink.ingestion: queued needs staging that the cluster can fetch from: type AzureBlob or FromCluster"
                    .to_owned(),
            );
        }
        let settings = &self.settings;
        if !(settings.chunk_size_mb > 0.0 && settings.chunk_size_mb <= CHUNK_MB_MAX && settings.chunk_bytes_max() > 0) {
            return Err(format!("settings.chunkSizeMB must be more than 0 and at most {CHUNK_MB_MAX}"));
        }
        if settings.parallel_copies == Some(0) {
            return Err("settings.parallelCopies must be at least 1".to_owned());
        }
        if !(-100..=100).contains(&settings.priority) {
            return Err("settings.priority must be between -100 and 100".to_owned());
        }
        if settings.attempts_max == 0 {
            return Err("settings.attemptsMax must be at least 1".to_owned());
        }
        if !(1..=9).contains(&settings.compression_level) {
            return Err("settings.compressionLevel must be 1 to 9".to_owned());
        }
        let skips = settings.enable_skip_incompatible_row;
        if !skips && (settings.skip_rows_max.is_some() || settings.skip_rows_percent_max.is_some()) {
            return Err("settings.skipRowsMax and skipRowsPercentMax need enableSkipIncompatibleRow: true".to_owned());
        }
        if settings.skip_rows_percent_max.is_some_and(|p| !(0.0..=100.0).contains(&p)) {
            return Err("settings.skipRowsPercentMax must be 0 to 100".to_owned());
        }
        if let Some(webhook) = &settings.webhook {
            webhook.check()?;
        }
        if settings.split_large_files && settings.skip_error_file {
            // One part may be in the table when another one shows that the file is to be left out.
            return Err("settings.splitLargeFiles does not go with settings.skipErrorFile".to_owned());
        }
        if settings.split_large_files && self.source.format.skip_line_count.unwrap_or(0) > 0 {
            return Err("settings.splitLargeFiles does not go with source.format.skipLineCount".to_owned());
        }
        Ok(())
    }
}

impl Source {
    /// How old a file must be.
    pub fn minimum_age(&self) -> Result<std::time::Duration, String> {
        let parse = |text: &String| {
            humantime::parse_duration(text).map_err(|e| format!("source.minimumAge {text:?}: {e}; write 30s or 2m"))
        };
        Ok(self.minimum_age.as_ref().map(parse).transpose()?.unwrap_or_default())
    }

    fn check(&self) -> Result<(), String> {
        if !self.folder_path.starts_with('/') {
            return Err(format!("source.folderPath {:?} must be absolute", self.folder_path));
        }
        let chosen = [self.file_name.is_some(), self.wildcard_file_name.is_some(), self.file_list_path.is_some()];
        if chosen.iter().filter(|c| **c).count() > 1 {
            return Err("source: only one of fileName, wildcardFileName, fileListPath may be given".to_owned());
        }
        if let (Some(start), Some(end)) = (self.modified_datetime_start, self.modified_datetime_end)
            && start >= end
        {
            return Err("source.modifiedDatetimeStart must be before modifiedDatetimeEnd".to_owned());
        }
        self.minimum_age()?;
        self.check_after_completion()?;
        if self.done_marker.as_deref().is_some_and(|marker| marker.is_empty() || marker.contains('/')) {
            return Err(
                "source.doneMarker must be an ending such as .done, or a file's name such as _SUCCESS".to_owned()
            );
        }
        let mut seen = std::collections::HashSet::new();
        for column in &self.additional_columns {
            if column.name.trim().is_empty() || !seen.insert(&column.name) {
                return Err(format!("source.additionalColumns: name {:?} is empty or given twice", column.name));
            }
            let reserved = column.value.strip_prefix("$$");
            if reserved.is_some_and(|r| r != "FILEPATH" && r != "FILENAME" && !r.starts_with("COLUMN:")) {
                return Err(format!(
                    "source.additionalColumns: {:?} is none of $$FILEPATH, $$FILENAME, $$COLUMN:name",
                    column.value
                ));
            }
        }
        self.format.check()
    }
}

impl Format {
    fn check(&self) -> Result<(), String> {
        use FormatType as T;
        let kind = self.kind;
        let is = |kinds: &[FormatType]| kinds.contains(&kind);
        let given = [
            ("columnDelimiter", self.column_delimiter.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("quoteChar", self.quote_char.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("escapeChar", self.escape_char.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("rowDelimiter", self.row_delimiter.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("commentChar", self.comment_char.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("nullValue", self.null_value.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            ("strictColumnCount", self.strict_column_count.is_some(), is(&[T::DelimitedText]), "DelimitedText"),
            (
                "firstRowAsHeader",
                self.first_row_as_header.is_some(),
                is(&[T::DelimitedText, T::Excel]),
                "DelimitedText and Excel",
            ),
            (
                "skipLineCount",
                self.skip_line_count.is_some(),
                is(&[T::DelimitedText, T::FixedWidthText, T::TextLines]),
                "DelimitedText, FixedWidthText and TextLines",
            ),
            ("encodingName", self.encoding_name.is_some(), kind.is_text(), "text"),
            ("columns", !self.columns.is_empty(), is(&[T::FixedWidthText]), "FixedWidthText"),
            ("sheetName", self.sheet_name.is_some(), is(&[T::Excel]), "Excel"),
            ("sheetIndex", self.sheet_index.is_some(), is(&[T::Excel]), "Excel"),
            ("range", self.range.is_some(), is(&[T::Excel]), "Excel"),
            ("rowElement", self.row_element.is_some(), is(&[T::Xml]), "Xml"),
        ];
        if let Some((key, _, _, of)) = given.iter().find(|(_, given, fits, _)| *given && !fits) {
            return Err(format!("source.format.{key} is for {of}, not for {kind:?}"));
        }
        if kind == T::FixedWidthText && self.columns.is_empty() {
            return Err("source.format.columns is missing: name and width of each column".to_owned());
        }
        if self.sheet_name.is_some() && self.sheet_index.is_some() {
            return Err("source.format: only one of sheetName, sheetIndex may be given".to_owned());
        }
        let single =
            [("quoteChar", &self.quote_char), ("escapeChar", &self.escape_char), ("commentChar", &self.comment_char)];
        for (key, text) in single {
            let Some(text) = text else { continue };
            match unescaped(text).as_slice() {
                [b'\n' | b'\r'] => return Err(format!("source.format.{key} may not be a line end")),
                [byte] if byte.is_ascii() => {}
                [] => {}
                _ => return Err(format!("source.format.{key} {text:?} must be one ASCII character")),
            }
        }
        let delimiter = self.delimiter();
        if delimiter.iter().any(|b| matches!(b, b'\n' | b'\r')) {
            return Err("source.format.columnDelimiter may not be a line end".to_owned());
        }
        if self.quote().is_some_and(|q| delimiter.contains(&q)) {
            return Err("source.format: columnDelimiter and quoteChar must differ".to_owned());
        }
        if self.escape().is_some_and(|e| delimiter.contains(&e)) {
            return Err("source.format: columnDelimiter and escapeChar must differ".to_owned());
        }
        if let Some(text) = &self.row_delimiter
            && !matches!(unescaped(text).as_slice(), b"\n" | b"\r\n" | b"\r")
        {
            return Err(format!("source.format.rowDelimiter {text:?} must be \\n, \\r\\n or \\r"));
        }
        Ok(())
    }
}

impl Sink {
    fn check(&self, source: &Source) -> Result<(), String> {
        if self.kind == SinkType::Kusto {
            return Err("sink.type: Kusto is the old name; write AzureDataExplorer".to_owned());
        }
        for (key, text) in [("endpoint", &self.endpoint), ("database", &self.database), ("table", &self.table)] {
            if text.trim().is_empty() {
                return Err(format!("sink.{key} is empty"));
            }
        }
        if self.publish != Publish::Append && self.mapping.reference.is_some() {
            return Err(
                "sink.mapping.reference names a mapping of the table, and with sink.publish atomic or replace rows \
                        are ingested into a staging table first; list the columns in sink.mapping.columns"
                    .to_owned(),
            );
        }
        if self.ingestion == Ingestion::Queued && self.publish != Publish::Append {
            return Err(
                "sink.publish atomic and replace need sink.ingestion: direct; what is queued may arrive at any time"
                    .to_owned(),
            );
        }
        self.auth.check("sink.auth")?;
        if let Some(time) = &self.creation_time
            && time.path_pattern.is_some() == time.column.is_some()
        {
            return Err("sink.creationTime needs pathPattern or column, one of them".to_owned());
        }
        let has_days = matches!(
            source.format.kind,
            FormatType::DelimitedText | FormatType::Parquet | FormatType::Avro | FormatType::Orc
        );
        if self.creation_time.as_ref().is_some_and(|t| t.column.is_some()) && !has_days {
            return Err(format!(
                "sink.creationTime.column is read from DelimitedText, Parquet, Avro and Orc; for {:?} give pathPattern",
                source.format.kind
            ));
        }
        self.mapping.check(source)
    }
}

impl Mapping {
    fn check(&self, source: &Source) -> Result<(), String> {
        let given = [self.by.is_some(), self.columns.is_some(), self.reference.is_some()];
        if given.iter().filter(|g| **g).count() > 1 {
            return Err("sink.mapping: only one of by, columns, reference may be given".to_owned());
        }
        let shape = source.format.kind.shape();
        if self.collection_reference.is_some() && shape != Shape::Objects {
            return Err("sink.mapping.collectionReference is for Json and Xml".to_owned());
        }
        if self.reference.is_some() && (self.collection_reference.is_some() || self.type_conversion_settings.is_some())
        {
            return Err("sink.mapping.reference goes alone: the table's own mapping says what happens".to_owned());
        }
        let Some(columns) = &self.columns else { return Ok(()) };
        if columns.is_empty() {
            return Err("sink.mapping.columns is empty".to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        for (index, column) in columns.iter().enumerate() {
            let at = format!("sink.mapping.columns[{index}]");
            if !seen.insert(&column.sink.name) {
                return Err(format!("{at}: table column {:?} is mapped twice", column.sink.name));
            }
            if let Some(kind) = &column.sink.kind
                && kind.parse::<ScalarType>().is_err()
            {
                return Err(format!(
                    "{at}.sink.type {kind:?} is not one of {}",
                    ScalarType::ALL.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(", ")
                ));
            }
            let is_added = |name: &String| source.additional_columns.iter().any(|c| c.name == *name);
            match (&column.source.name, column.source.ordinal, &column.source.path) {
                (Some(name), None, None)
                    if source.format.has_names() || is_added(name) || source.enable_partition_discovery => {}
                (Some(name), None, None) => {
                    return Err(format!(
                        "{at}: source column {name:?} has no name in files without a header row; use ordinal"
                    ));
                }
                (None, Some(0), None) => return Err(format!("{at}.source.ordinal counts from 1")),
                (None, Some(1..), None) if shape == Shape::Fields => {}
                (None, None, Some(path))
                    if shape == Shape::Objects && (path.starts_with('$') || self.collection_reference.is_some()) => {}
                (None, Some(_), None) => {
                    return Err(format!("{at}.source.ordinal is for formats whose records are fields in an order"));
                }
                (None, None, Some(_)) => return Err(format!("{at}.source.path is for Json and Xml and begins with $")),
                _ => return Err(format!("{at}.source needs exactly one of name, ordinal, path")),
            }
        }
        Ok(())
    }
}

/// Largest file that is read as a secret: certificates come with their chains.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Ends of the names of hosts that may be sent what opens storage. Source: Azure's clouds, Storage endpoints.
const STORAGE_SUFFIXES: [&str; 4] = [
    ".blob.core.windows.net",
    ".blob.storage.azure.net",
    ".blob.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
];

/// The address is one of Azure Storage over TLS, or of this machine.
pub fn may_hear_secrets(container: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(container) else { return false };
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let is_plain_name = url.username().is_empty() && url.password().is_none();
    let is_azure = url.scheme() == "https" && STORAGE_SUFFIXES.iter().any(|suffix| host.ends_with(suffix));
    is_plain_name && (leads_here(&url) || is_azure)
}

impl Staging {
    fn check(&self) -> Result<(), String> {
        let is_blob = self.account_key.is_some() || self.sas.is_some() || self.auth.is_some();
        match self.kind {
            StagingType::FromCluster => {
                if self.container.is_some() || self.folder_path.is_some() || is_blob {
                    return Err(
                        "staging.container, auth, accountKey, sas and folderPath do not go with type FromCluster: the cluster \
                         says where, and signs"
                            .to_owned(),
                    );
                }
            }
            StagingType::AzureBlob => {
                let Some(container) = &self.container else { return Err("staging.container is missing".to_owned()) };
                if container.contains('?') {
                    return Err("staging.container must not hold a signature; put it into staging.sas".to_owned());
                }
                if !container.starts_with("https://") && !container.starts_with("http://") {
                    return Err("staging.container must be an https address".to_owned());
                }
                let given = [self.account_key.is_some(), self.sas.is_some(), self.auth.is_some()];
                if given.iter().filter(|is_given| **is_given).count() != 1 {
                    return Err("staging needs auth, accountKey or sas, one of them".to_owned());
                }
                if let Some(auth) = &self.auth {
                    if matches!(auth.kind, AuthType::None | AuthType::Bearer) {
                        return Err(format!(
                            "staging.auth: type {} opens no storage; name an identity of Entra ID",
                            auth.kind.name()
                        ));
                    }
                    auth.check("staging.auth")?;
                }
                // An account's key never leaves the coordinator, which judges the host by its own settings; a token or a given
                // signature goes to whoever is named.
                if self.account_key.is_none() && !may_hear_secrets(container) {
                    return Err(format!(
                        "staging.container: with auth or sas it must be https:// at a host of Azure Storage (its name ends in {}), \
                         or on this machine",
                        STORAGE_SUFFIXES.join(", ")
                    ));
                }
                if self.folder_path.is_some() {
                    return Err("staging.folderPath is for type FileSystem".to_owned());
                }
            }
            StagingType::FileSystem => {
                if !self.folder_path.as_deref().is_some_and(|p| p.starts_with('/')) {
                    return Err("staging.folderPath must be given, and absolute".to_owned());
                }
                if self.container.is_some() || is_blob {
                    return Err("staging.container, auth, accountKey and sas are for type AzureBlob".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Reads settings, YAML or JSON. What is wrong is said with its line, and for an unknown key with the nearest known one.
pub fn parse_settings<T: serde::de::DeserializeOwned>(text: &str, origin: &str) -> Result<T, Failure> {
    if text.len() > ACTIVITY_BYTES_MAX {
        let why = format!("{origin}: {} bytes are more than the {ACTIVITY_BYTES_MAX} that it may have", text.len());
        return Err(Failure::settings(Code::SettingsInvalid, why));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| Failure::settings(Code::SettingsInvalid, parse_message(&e, origin)))
}

/// What went wrong in reading, as `origin: line L, column C: ...`, with the nearest known key.
fn parse_message(error: &serde_saphyr::Error, origin: &str) -> String {
    use serde_saphyr::{Error as E, MessageFormatter as _};
    let place = match error.location() {
        Some(at) => format!("{origin}: line {}, column {}: ", at.line(), at.column()),
        None => format!("{origin}: "),
    };
    let text = match error.without_snippet() {
        E::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key {field:?}{}; known here: {}", nearest(field, expected), expected.join(", "))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value {variant:?}{}; known here: {}", nearest(variant, expected), expected.join(", "))
        }
        other => serde_saphyr::UserMessageFormatter.format_message(other).escape_debug().to_string(),
    };
    place + &text
}

/// A hint at the known name nearest to an unknown one, if one is near.
fn nearest(unknown: &str, known: &[&'static str]) -> String {
    let unknown = unknown.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&unknown, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!(", did you mean {name}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
