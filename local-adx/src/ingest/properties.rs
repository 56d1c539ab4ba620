//! The properties behind `with` in an ingest command.

use crate::{
    error::AdxError,
    kql::{Parser, lexer::Token},
    types::parse_datetime,
};

/// Properties of an ingestion.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    /// Such as `csv`.
    pub format: String,
    /// The mapping's JSON.
    pub mapping: Option<String>,
    /// The name of a mapping on the table; whoever reads this looks it up and sets `mapping`.
    pub mapping_reference: Option<String>,
    /// The first record is a header.
    pub ignore_first_record: bool,
    /// Tags of the extent.
    pub tags: Vec<String>,
    /// Values of `ingest-by:` tags that must not be there yet.
    pub if_not_exists: Vec<String>,
    /// A record of another width fails the blob.
    pub strict_width: bool,
    /// When the extent shall seem to be made; now, if not set.
    pub created_ticks: Option<i64>,
}

impl Properties {
    /// Takes `with (name = value, ...)` if it is next.
    ///
    /// Fails for a property that is not known, a value that makes no sense, and a mapping beside a reference to one.
    pub fn parse(p: &mut Parser) -> Result<Self, AdxError> {
        let mut pairs = Vec::new();
        if !p.word("with") {
            return Self::of(pairs);
        }
        p.expect("(")?;
        loop {
            let name = p.name()?;
            p.expect("=")?;
            let value = match p.advance() {
                Some(Token::Text(text)) => text,
                Some(Token::Ident(word)) => word,
                Some(Token::Long(number)) => number.to_string(),
                Some(Token::Typed(kind, raw)) if kind == "datetime" => raw,
                _ => return p.fail("a value"),
            };
            pairs.push((name, value));
            if !p.sign(",") {
                p.expect(")")?;
                return Self::of(pairs);
            }
        }
    }

    /// Takes properties as names and text, as messages of queued ingestion carry them. Fails as [`Properties::parse`] does.
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, AdxError> {
        let mut properties = Self { format: "csv".to_owned(), ..Self::default() };
        for (name, value) in pairs {
            properties.set(&name, value)?;
        }
        if properties.mapping.is_some() && properties.mapping_reference.is_some() {
            return Err(AdxError::bad_request("BadRequest_DuplicateMapping: a mapping and a reference to one"));
        }
        Ok(properties)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), AdxError> {
        let bad = |why: &dyn std::fmt::Display| {
            AdxError::bad_request(format!("BadRequest_MalformedIngestionProperty: ingestion property '{name}': {why}"))
        };
        let list = || serde_json::from_str::<Vec<String>>(&value).map_err(|e| bad(&e));
        match name {
            "format" => self.format = value.to_lowercase(),
            "ingestionMapping" => self.mapping = Some(value),
            "ingestionMappingReference" => self.mapping_reference = Some(value),
            "ignoreFirstRecord" => self.ignore_first_record = value.eq_ignore_ascii_case("true") || value == "1",
            "tags" => self.tags = list()?,
            "ingestIfNotExists" => self.if_not_exists = list()?,
            "creationTime" => {
                let ticks = parse_datetime(&value).ok_or_else(|| bad(&format!("'{value}' is no datetime")))?;
                self.created_ticks = Some(ticks);
            }
            // Client libraries write it with a capital letter.
            "validationPolicy" | "ValidationPolicy" => {
                let policy: serde_json::Value = serde_json::from_str(&value).map_err(|e| bad(&e))?;
                let is = |key: &str, wanted: i64| policy.get(key).and_then(serde_json::Value::as_i64) == Some(wanted);
                self.strict_width = is("ValidationOptions", 1) && is("ValidationImplications", 0);
            }
            "persistDetails" | "ingestionMappingType" => {}
            other => {
                return Err(AdxError::not_supported(format!(
                    "ingestion property '{other}' is not supported by local-adx"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Properties, AdxError> {
        Properties::parse(&mut Parser::new(text).unwrap())
    }

    #[test]
    fn properties_are_read() {
        let properties = parsed("with (format = 'Parquet', tags = '[\"a\"]', ignoreFirstRecord = true)").unwrap();
        assert_eq!(properties.format, "parquet");
        assert_eq!(properties.tags, ["a"]);
        assert!(properties.ignore_first_record);
        assert_eq!(parsed("").unwrap().format, "csv");
    }

    #[test]
    fn a_creation_time_is_a_datetime() {
        for text in ["'2020-01-02T03:04:05Z'", "\"2020-01-02 03:04:05\"", "datetime(2020-01-02T03:04:05Z)"] {
            let properties = parsed(&format!("with (creationTime={text})")).unwrap();
            assert_eq!(properties.created_ticks, parse_datetime("2020-01-02T03:04:05Z"), "{text}");
        }
        for text in ["''", "'yesterday'", "'2020-13-01'", "2020"] {
            let error = parsed(&format!("with (creationTime={text})")).unwrap_err();
            assert_eq!((error.status, error.permanent), (400, true), "{text}");
            assert!(error.message.starts_with("BadRequest_MalformedIngestionProperty: "), "{}", error.message);
            assert!(error.message.contains("creationTime"), "{}", error.message);
        }
    }

    #[test]
    fn properties_that_make_no_sense_are_refused() {
        for (case, text, wanted) in [
            ("an unknown one", "with (zipPattern='*')", "zipPattern"),
            (
                "two mappings",
                "with (ingestionMapping='[]', ingestionMappingReference='m')",
                "BadRequest_DuplicateMapping",
            ),
            ("a list that is none", "with (tags='a')", "BadRequest_MalformedIngestionProperty"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.message.contains(wanted), "{case}: {}", error.message);
        }
    }
}
