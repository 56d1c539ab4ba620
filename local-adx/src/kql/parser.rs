//! Tokens to a query: recursive descent, operators by precedence.

use super::{
    ast::{Binary, Expr, Lit, Named, Operator, Query, SortKey, Source, TextTest},
    lexer::{Token, tokens},
};
use crate::{
    error::AdxError,
    types::{Kind, parse_datetime, parse_guid, parse_timespan},
};

/// A reader of tokens; commands use it, too.
#[derive(Debug, Clone)]
pub struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// Expressions that are open around the next token.
    depth: usize,
}

/// How deep expressions may be nested, and how many may be joined by one kind of operator.
const DEPTH_MAX: usize = 60;

impl Parser {
    /// A parser of this text.
    pub fn new(text: &str) -> Result<Self, AdxError> {
        Ok(Self { tokens: tokens(text)?, at: 0, depth: 0 })
    }

    /// The next token.
    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Takes the next token.
    pub fn advance(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// An error about the next token.
    pub fn fail<T>(&self, wanted: &str) -> Result<T, AdxError> {
        let found = match self.peek() {
            None => "the end of the text".to_owned(),
            Some(Token::Sign(sign)) => format!("'{sign}'"),
            Some(Token::Ident(word)) => format!("'{word}'"),
            Some(other) => format!("{other:?}"),
        };
        Err(AdxError::syntax(format!("Syntax error: expected {wanted}, found {found}")))
    }

    /// Takes a sign if it is next.
    pub fn sign(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes a word if it is next.
    pub fn word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Ident(w)) if w == word);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes words if they are next, all or none.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let begin = self.at;
        if words.iter().all(|w| self.word(w)) {
            return true;
        }
        self.at = begin;
        false
    }

    /// Takes a sign that must be next.
    pub fn expect(&mut self, sign: &str) -> Result<(), AdxError> {
        if self.sign(sign) { Ok(()) } else { self.fail(&format!("'{sign}'")) }
    }

    /// Takes a name.
    pub fn name(&mut self) -> Result<String, AdxError> {
        match self.advance() {
            Some(Token::Ident(name) | Token::Quoted(name)) => Ok(name),
            Some(Token::Text(name)) => Ok(name),
            _ => {
                self.at -= 1;
                self.fail("a name")
            }
        }
    }

    /// Takes a string.
    pub fn text(&mut self) -> Result<String, AdxError> {
        match self.advance() {
            Some(Token::Text(text)) => Ok(text),
            _ => {
                self.at -= 1;
                self.fail("a string")
            }
        }
    }

    /// Takes operators as long as there are any: `| operator | operator`.
    pub fn operators(&mut self) -> Result<Vec<Operator>, AdxError> {
        let mut operators = Vec::new();
        while self.sign("|") {
            operators.push(self.operator()?);
        }
        Ok(operators)
    }

    /// Takes what is left as a pipeline: `| operator | operator`.
    pub fn pipeline(&mut self) -> Result<Vec<Operator>, AdxError> {
        let operators = self.operators()?;
        self.sign(";");
        if self.is_at_end() { Ok(operators) } else { self.fail("'|' or the end") }
    }

    /// Takes a whole query.
    pub fn query(&mut self) -> Result<Query, AdxError> {
        let source = if self.word("print") {
            Source::Print(self.named_list()?)
        } else if self.word("range") {
            let name = self.name()?;
            let mut part = |word: &str| -> Result<Expr, AdxError> {
                if self.word(word) { self.additive() } else { self.fail(&format!("'{word}'")) }
            };
            Source::Range { name, from: part("from")?, to: part("to")?, step: part("step")? }
        } else {
            if self.sign("(") {
                return Err(AdxError::not_supported("a query in parentheses is not supported by local-adx"));
            }
            let name = self.name()?;
            if matches!(
                name.as_str(),
                "let" | "union" | "set" | "declare" | "search" | "find" | "datatable" | "externaldata"
            ) {
                return Err(AdxError::not_supported(format!("'{name}' is not supported by local-adx")));
            }
            Source::Table(name)
        };
        Ok(Query { source, operators: self.pipeline()? })
    }

    fn operator(&mut self) -> Result<Operator, AdxError> {
        let Some(Token::Ident(name)) = self.advance() else {
            self.at -= 1;
            return self.fail("an operator");
        };
        Ok(match name.as_str() {
            "where" | "filter" => Operator::Where(self.expr()?),
            "extend" => Operator::Extend(self.named_list()?),
            "project" if self.sign("-") => {
                let kind = self.name()?;
                match kind.as_str() {
                    "away" => Operator::ProjectAway(self.name_list()?),
                    "rename" => {
                        let mut renames = Vec::new();
                        loop {
                            let to = self.name()?;
                            self.expect("=")?;
                            renames.push((to, self.name()?));
                            if !self.sign(",") {
                                break;
                            }
                        }
                        Operator::ProjectRename(renames)
                    }
                    other => {
                        return Err(AdxError::not_supported(format!(
                            "'project-{other}' is not supported by local-adx"
                        )));
                    }
                }
            }
            "project" => Operator::Project(self.named_list()?),
            "summarize" => {
                let aggregates = if matches!(self.peek(), Some(Token::Ident(w)) if w == "by") {
                    Vec::new()
                } else {
                    self.named_list()?
                };
                let by = if self.word("by") { self.named_list()? } else { Vec::new() };
                Operator::Summarize { aggregates, by }
            }
            "sort" | "order" => {
                if !self.word("by") {
                    return self.fail("'by'");
                }
                Operator::Sort(self.sort_keys()?)
            }
            "top" => {
                let count = self.count()?;
                if !self.word("by") {
                    return self.fail("'by'");
                }
                Operator::Top(count, self.sort_keys()?)
            }
            "take" | "limit" => Operator::Take(self.count()?),
            "count" => Operator::Count,
            "distinct" => {
                let mut columns = Vec::new();
                loop {
                    columns.push(if self.sign("*") { Expr::Star } else { self.expr()? });
                    if !self.sign(",") {
                        break;
                    }
                }
                Operator::Distinct(columns)
            }
            "getschema" => Operator::GetSchema,
            other => return Err(AdxError::not_supported(format!("operator '{other}' is not supported by local-adx"))),
        })
    }

    fn count(&mut self) -> Result<usize, AdxError> {
        match self.advance() {
            Some(Token::Long(n)) => usize::try_from(n).map_err(|_| AdxError::semantic("a count may not be negative")),
            _ => {
                self.at -= 1;
                self.fail("a number")
            }
        }
    }

    fn sort_keys(&mut self) -> Result<Vec<SortKey>, AdxError> {
        let mut keys = Vec::new();
        loop {
            let expr = self.expr()?;
            let descending = !self.word("asc");
            self.word("desc");
            let mut nulls_first = !descending;
            if self.word("nulls") {
                nulls_first = self.word("first");
                if !nulls_first && !self.word("last") {
                    return self.fail("'first' or 'last'");
                }
            }
            keys.push(SortKey { expr, descending, nulls_first });
            if !self.sign(",") {
                return Ok(keys);
            }
        }
    }

    fn name_list(&mut self) -> Result<Vec<String>, AdxError> {
        let mut names = vec![self.name()?];
        while self.sign(",") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn named_list(&mut self) -> Result<Vec<Named>, AdxError> {
        let mut list = Vec::new();
        loop {
            let begin = self.at;
            let name = match (self.advance(), self.peek()) {
                (Some(Token::Ident(name) | Token::Quoted(name)), Some(Token::Sign("="))) => {
                    self.at += 1;
                    Some(name)
                }
                _ => {
                    self.at = begin;
                    None
                }
            };
            list.push((name, self.expr()?));
            if !self.sign(",") {
                return Ok(list);
            }
        }
    }

    /// Takes an expression.
    pub fn expr(&mut self) -> Result<Expr, AdxError> {
        self.deeper(|p| {
            let mut left = p.conjunction()?;
            let mut joined = 0;
            while p.word("or") {
                p.check_depth(&mut joined)?;
                left = binary(Binary::Or, left, p.conjunction()?);
            }
            Ok(left)
        })
    }

    /// Parses what lies one level deeper. The evaluator goes as deep as the parser, on a stack that ends.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, AdxError>) -> Result<T, AdxError> {
        let mut depth = self.depth;
        self.check_depth(&mut depth)?;
        let outer = std::mem::replace(&mut self.depth, depth);
        let result = parse(self);
        self.depth = outer;
        result
    }

    fn check_depth(&self, depth: &mut usize) -> Result<(), AdxError> {
        *depth += 1;
        if *depth > DEPTH_MAX {
            return Err(AdxError::not_supported(format!(
                "expressions deeper or longer than {DEPTH_MAX} are not supported by local-adx"
            )));
        }
        Ok(())
    }

    fn conjunction(&mut self) -> Result<Expr, AdxError> {
        let mut left = self.comparison()?;
        let mut joined = 0;
        while self.word("and") {
            self.check_depth(&mut joined)?;
            left = binary(Binary::And, left, self.comparison()?);
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expr, AdxError> {
        let left = self.additive()?;
        for (sign, op) in [
            ("==", Binary::Eq),
            ("!=", Binary::Ne),
            ("<=", Binary::Le),
            (">=", Binary::Ge),
            ("<", Binary::Lt),
            (">", Binary::Gt),
        ] {
            if self.sign(sign) {
                return Ok(binary(op, left, self.additive()?));
            }
        }
        for (sign, negated) in [("=~", false), ("!~", true)] {
            if self.sign(sign) {
                let test = TextTest { name: "equals".to_owned(), negated, case_sensitive: false };
                return Ok(Expr::Text(test, Box::new(left), Box::new(self.additive()?)));
            }
        }
        let begin = self.at;
        let negated = self.sign("!");
        match self.advance() {
            Some(Token::Ident(word)) if word == "in" => {
                let insensitive = self.sign("~");
                self.expect("(")?;
                let mut list = Vec::new();
                while !self.sign(")") {
                    list.push(self.expr()?);
                    if !self.sign(",") {
                        self.expect(")")?;
                        break;
                    }
                }
                Ok(Expr::In { value: Box::new(left), list, negated, case_sensitive: !insensitive })
            }
            Some(Token::Ident(word)) if word == "between" => {
                self.expect("(")?;
                let low = self.additive()?;
                self.expect("..")?;
                let high = self.additive()?;
                self.expect(")")?;
                Ok(Expr::Between { value: Box::new(left), low: Box::new(low), high: Box::new(high), negated })
            }
            Some(Token::Ident(word)) if word == "matches" && self.word("regex") => {
                let test = TextTest { name: "matches".to_owned(), negated, case_sensitive: true };
                Ok(Expr::Text(test, Box::new(left), Box::new(self.additive()?)))
            }
            Some(Token::Ident(word)) if is_text_test(&word) => {
                let case_sensitive = word.ends_with("_cs");
                let test = TextTest { name: word.trim_end_matches("_cs").to_owned(), negated, case_sensitive };
                Ok(Expr::Text(test, Box::new(left), Box::new(self.additive()?)))
            }
            _ => {
                self.at = begin;
                Ok(left)
            }
        }
    }

    fn additive(&mut self) -> Result<Expr, AdxError> {
        let mut left = self.multiplicative()?;
        let mut joined = 0;
        loop {
            self.check_depth(&mut joined)?;
            let op = if self.sign("+") {
                Binary::Add
            } else if self.sign("-") {
                Binary::Sub
            } else {
                return Ok(left);
            };
            left = binary(op, left, self.multiplicative()?);
        }
    }

    fn multiplicative(&mut self) -> Result<Expr, AdxError> {
        let mut left = self.unary()?;
        let mut joined = 0;
        loop {
            self.check_depth(&mut joined)?;
            let op = if self.sign("*") {
                Binary::Mul
            } else if self.sign("/") {
                Binary::Div
            } else if self.sign("%") {
                Binary::Rem
            } else {
                return Ok(left);
            };
            left = binary(op, left, self.unary()?);
        }
    }

    fn unary(&mut self) -> Result<Expr, AdxError> {
        if self.sign("-") {
            return self.deeper(|p| Ok(Expr::Neg(Box::new(p.unary()?))));
        }
        let mut expr = self.primary()?;
        let mut joined = 0;
        loop {
            self.check_depth(&mut joined)?;
            if self.sign(".") {
                expr = Expr::Member(Box::new(expr), self.name()?);
            } else if self.sign("[") {
                let index = self.expr()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index));
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, AdxError> {
        Ok(match self.advance() {
            Some(Token::Long(n)) => Expr::Lit(Lit::Long(n)),
            Some(Token::Real(n)) => Expr::Lit(Lit::Real(n)),
            Some(Token::Timespan(t)) => Expr::Lit(Lit::Timespan(t)),
            Some(Token::Text(t)) => Expr::Lit(Lit::Text(t)),
            Some(Token::Guid(g)) => Expr::Lit(Lit::Guid(g)),
            Some(Token::Typed(kind, raw)) => Expr::Lit(typed(&kind, &raw)?),
            Some(Token::Quoted(name)) => Expr::Name(name),
            Some(Token::Sign("(")) => {
                let inner = self.expr()?;
                self.expect(")")?;
                inner
            }
            Some(Token::Sign("*")) => Expr::Star,
            Some(Token::Ident(word)) => match word.as_str() {
                "true" => Expr::Lit(Lit::Bool(true)),
                "false" => Expr::Lit(Lit::Bool(false)),
                _ if self.sign("(") => {
                    let mut args = Vec::new();
                    while !self.sign(")") {
                        args.push(self.expr()?);
                        if !self.sign(",") {
                            self.expect(")")?;
                            break;
                        }
                    }
                    match (Kind::parse(&word), args.as_slice()) {
                        (Some(kind), [Expr::Name(null)]) if null == "null" => Expr::Lit(Lit::Null(kind)),
                        (Some(_), [_]) => Expr::Call(format!("to{word}"), args),
                        _ => Expr::Call(word, args),
                    }
                }
                _ => Expr::Name(word),
            },
            _ => {
                self.at -= 1;
                return self.fail("an expression");
            }
        })
    }
}

fn binary(op: Binary, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}

fn is_text_test(word: &str) -> bool {
    matches!(word.trim_end_matches("_cs"), "has" | "contains" | "startswith" | "endswith" | "hasprefix" | "hassuffix")
}

fn typed(kind: &str, raw: &str) -> Result<Lit, AdxError> {
    let unquoted = raw.trim_matches(['\'', '"']);
    let bad = || AdxError::syntax(format!("Syntax error: {kind}({raw}) is no {kind}"));
    let parsed = Kind::parse(kind).unwrap_or(Kind::String);
    if raw == "null" {
        return Ok(Lit::Null(parsed));
    }
    match parsed {
        Kind::Datetime if raw.is_empty() => Ok(Lit::Datetime(crate::now_ticks())),
        Kind::Datetime => parse_datetime(unquoted).map(Lit::Datetime).ok_or_else(bad),
        Kind::Timespan => match tokens(unquoted).ok().as_deref() {
            Some([Token::Timespan(ticks)]) => Ok(Lit::Timespan(*ticks)),
            Some([Token::Long(days)]) => Ok(Lit::Timespan(days * 86_400 * crate::types::TICKS_PER_SECOND)),
            _ => parse_timespan(unquoted).map(Lit::Timespan).ok_or_else(bad),
        },
        Kind::Guid => parse_guid(unquoted).map(Lit::Guid).ok_or_else(bad),
        _ => serde_json::from_str::<serde_json::Value>(raw).map(|v| Lit::Dynamic(v.to_string())).map_err(|_| bad()),
    }
}
