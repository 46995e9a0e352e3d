//! TOML to a tree. The parser below it says what is written; here it is decided what it defines.

use std::borrow::Cow;

use toml_datetime::Datetime;
use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

use super::tree::{Entries, Kind, List, Node, Value};

/// Values inside of values, and parts of a dotted key.
const DEPTH_MAX: u32 = 64;
/// Tokens handed to the parser at once, so that those of a large file never lie in memory together.
const TOKENS_AT_ONCE: usize = 4096;

/// Reads a whole text. What is left out of the tree was reported.
pub(super) fn parse<'t>(text: &'t str, errors: &mut dyn ErrorSink) -> Entries<'t> {
    let source = Source::new(text);
    let mut builder = Builder::new(source);
    {
        let mut receiver = ValidateWhitespace::new(&mut builder, source);
        let mut receiver = RecursionGuard::new(&mut receiver, DEPTH_MAX);
        let mut tokens: Vec<Token> = Vec::with_capacity(TOKENS_AT_ONCE);
        let mut depth = 0usize;
        for token in source.lex() {
            tokens.push(token);
            match token.kind() {
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    depth = depth.saturating_sub(1);
                }
                // Outside of all brackets a line's end is the end of an expression.
                TokenKind::Newline if depth == 0 && tokens.len() >= TOKENS_AT_ONCE => {
                    parse_document(&tokens, &mut receiver, errors);
                    tokens.clear();
                }
                _ => {}
            }
        }
        parse_document(&tokens, &mut receiver, errors);
    }
    builder.finish_table(errors);
    builder.root
}

struct Key<'t> {
    text: Cow<'t, str>,
    at: usize,
}

impl Key<'_> {
    fn span(&self) -> Span {
        Span::new_unchecked(self.at, self.at)
    }
}

/// A table's header: where the table goes when it is complete.
struct Header<'t> {
    path: Vec<Key<'t>>,
    at: usize,
    array: bool,
}

/// A value that has begun and not ended.
enum Frame<'t> {
    List { at: usize, list: List<'t> },
    Table { at: usize, entries: Entries<'t>, keys: Vec<Key<'t>> },
}

struct Builder<'t> {
    source: Source<'t>,
    root: Entries<'t>,
    /// The table that key-value pairs go into, and its header; without one it is the root.
    table: Entries<'t>,
    header: Option<Header<'t>>,
    /// A header that has begun and not ended.
    opening: Option<(usize, bool)>,
    /// The table's header was broken: its pairs belong nowhere.
    lost: bool,
    keys: Vec<Key<'t>>,
    frames: Vec<Frame<'t>>,
}

impl<'t> Builder<'t> {
    fn new(source: Source<'t>) -> Self {
        Self {
            source,
            root: Entries::default(),
            table: Entries::default(),
            header: None,
            opening: None,
            lost: false,
            keys: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn open_header(&mut self, span: Span, array: bool, errors: &mut dyn ErrorSink) {
        self.finish_table(errors);
        self.keys.clear();
        self.opening = Some((span.start(), array));
    }

    fn close_header(&mut self, errors: &mut dyn ErrorSink) {
        let Some((at, array)) = self.opening.take() else { return };
        let header = Header { path: std::mem::take(&mut self.keys), at, array };
        self.lost = header.path.is_empty();
        if !array {
            self.reopen(&header, errors);
        }
        self.header = Some(header);
    }

    /// A header may come after those of the tables inside of its own; what these made is kept.
    fn reopen(&mut self, header: &Header<'t>, errors: &mut dyn ErrorSink) {
        let Some((key, path)) = header.path.split_last() else { return };
        let Some(parent) = descend(&mut self.root, path, false, errors) else {
            self.lost = true;
            return;
        };
        let Some(place) = parent.place(&key.text) else { return };
        match &mut parent.node_mut(place).value {
            Value::Table(table) if table.kind == Kind::Implicit => {
                self.table = std::mem::take(table);
                self.table.kind = Kind::Defined;
            }
            _ => {
                errors.report_error(duplicate(key));
                self.lost = true;
            }
        }
    }

    fn finish_table(&mut self, errors: &mut dyn ErrorSink) {
        let table = self.table.take_exact();
        let Some(header) = self.header.take() else {
            if !std::mem::take(&mut self.lost) {
                self.root = table;
            }
            return;
        };
        if std::mem::take(&mut self.lost) {
            return;
        }
        let (key, path) = header.path.split_last().expect("a header without a name is lost");
        let Some(parent) = descend(&mut self.root, path, false, errors) else { return };
        let node = Node { at: header.at, value: Value::Table(table) };
        match parent.place(&key.text) {
            None => {
                let node = if header.array { list_of(node) } else { node };
                parent.add(key.text.clone(), key.at, node);
            }
            Some(place) if header.array => match &mut parent.node_mut(place).value {
                Value::List(list) if list.of_tables => list.items.push(node),
                _ => errors.report_error(duplicate(key)),
            },
            // Only a reopened table is there already, emptied.
            Some(place) => *parent.node_mut(place) = node,
        }
    }

    fn raw(&self, span: Span, encoding: Option<Encoding>) -> Raw<'t> {
        let text = self.source.get(span).map_or("", |raw| raw.as_str());
        Raw::new_unchecked(text, encoding, span)
    }

    fn value(&mut self, at: usize, value: Value<'t>, errors: &mut dyn ErrorSink) {
        let node = Node { at, value };
        match self.frames.last_mut() {
            Some(Frame::List { list, .. }) => list.items.push(node),
            Some(Frame::Table { entries, keys, .. }) => insert(entries, keys, node, errors),
            None if self.lost => self.keys.clear(),
            None => insert(&mut self.table, &mut self.keys, node, errors),
        }
    }
}

/// Puts a value under a key, which may be dotted; empties `keys`.
fn insert<'t>(
    table: &mut Entries<'t>,
    keys: &mut Vec<Key<'t>>,
    node: Node<'t>,
    errors: &mut dyn ErrorSink,
) {
    let Some(last) = keys.pop() else { return };
    let parent = descend(table, keys, true, errors);
    keys.clear();
    let Some(parent) = parent else { return };
    if parent.place(&last.text).is_some() {
        errors.report_error(duplicate(&last));
    } else {
        parent.add(last.text, last.at, node);
    }
}

/// The table at the end of a path; tables that are not there yet are made. `None` if the path
/// leads into something that cannot be added to, which is reported.
fn descend<'e, 't>(
    mut table: &'e mut Entries<'t>,
    path: &[Key<'t>],
    dotted: bool,
    errors: &mut dyn ErrorSink,
) -> Option<&'e mut Entries<'t>> {
    for key in path {
        let place = table.place(&key.text).unwrap_or_else(|| {
            let made = Entries::of_kind(if dotted { Kind::Dotted } else { Kind::Implicit });
            table.add(key.text.clone(), key.at, Node { at: key.at, value: Value::Table(made) });
            table.len() - 1
        });
        let value = latest(&mut table.node_mut(place).value);
        let kind = value.type_str();
        let Value::Table(next) = value else {
            errors.report_error(no_table(kind, key));
            return None;
        };
        match next.kind {
            // Its own braces closed it.
            Kind::Inline => {
                errors.report_error(no_table("inline table", key));
                return None;
            }
            Kind::Defined if dotted => {
                errors.report_error(duplicate(key));
                return None;
            }
            _ if dotted => next.kind = Kind::Dotted,
            _ => {}
        }
        table = next;
    }
    Some(table)
}

/// Of a list made by headers, the table made last; else the value itself.
fn latest<'e, 't>(value: &'e mut Value<'t>) -> &'e mut Value<'t> {
    if !matches!(value, Value::List(list) if list.of_tables) {
        return value;
    }
    match value {
        Value::List(list) => &mut list.items.last_mut().expect("made with a table").value,
        other => other,
    }
}

fn no_table(kind: &str, key: &Key<'_>) -> ParseError {
    let what = format!("adds to a value of type {kind}, which is complete");
    ParseError::new(what).with_unexpected(key.span())
}

/// The first table of a list made by headers.
fn list_of(first: Node<'_>) -> Node<'_> {
    let at = first.at;
    Node { at, value: Value::List(List { items: vec![first], of_tables: true }) }
}

fn duplicate(key: &Key<'_>) -> ParseError {
    ParseError::new("duplicate key").with_unexpected(key.span())
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.open_header(span, false, error);
    }

    fn std_table_close(&mut self, _: Span, error: &mut dyn ErrorSink) {
        self.close_header(error);
    }

    fn array_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.open_header(span, true, error);
    }

    fn array_table_close(&mut self, _: Span, error: &mut dyn ErrorSink) {
        self.close_header(error);
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        let entries = Entries::of_kind(Kind::Inline);
        self.frames.push(Frame::Table { at: span.start(), entries, keys: Vec::new() });
        true
    }

    fn inline_table_close(&mut self, _: Span, error: &mut dyn ErrorSink) {
        match self.frames.pop() {
            Some(Frame::Table { at, mut entries, .. }) => {
                self.value(at, Value::Table(entries.take_exact()), error);
            }
            // The parser has reported brackets that do not match.
            other => self.frames.extend(other),
        }
    }

    fn array_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        self.frames.push(Frame::List { at: span.start(), list: List::default() });
        true
    }

    fn array_close(&mut self, _: Span, error: &mut dyn ErrorSink) {
        match self.frames.pop() {
            Some(Frame::List { at, list }) => self.value(at, Value::List(list), error),
            other => self.frames.extend(other),
        }
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let raw = self.raw(span, encoding);
        let mut text = Cow::Borrowed("");
        raw.decode_key(&mut text, error);
        let keys = match self.frames.last_mut() {
            Some(Frame::Table { keys, .. }) => keys,
            _ => &mut self.keys,
        };
        if keys.len() >= DEPTH_MAX as usize {
            let what = ParseError::new("a dotted key with too many parts");
            error.report_error(what.with_unexpected(span));
        } else {
            keys.push(Key { text, at: span.start() });
        }
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let raw = self.raw(span, encoding);
        let mut text = Cow::Borrowed("");
        let value = match raw.decode_scalar(&mut text, error) {
            ScalarKind::String => Value::Text(text),
            ScalarKind::Boolean(value) => Value::Boolean(value),
            ScalarKind::Float => Value::Float(text),
            ScalarKind::DateTime => match text.parse::<Datetime>() {
                Ok(moment) => Value::Datetime(moment.to_string()),
                Err(wrong) => {
                    error.report_error(ParseError::new(wrong.to_string()).with_unexpected(span));
                    Value::Null
                }
            },
            ScalarKind::Integer(radix) => match i64::from_str_radix(&text, radix.value()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    let what = ParseError::new("a number that does not fit 64 bits");
                    error.report_error(what.with_unexpected(span));
                    Value::Null
                }
            },
        };
        self.value(span.start(), value, error);
    }

    fn value_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        if let Some(Frame::Table { keys, .. }) = self.frames.last_mut() {
            keys.clear();
        }
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // What is left here was broken and has been reported.
        if self.opening.take().is_some() {
            self.lost = true;
        }
        if self.frames.is_empty() {
            self.keys.clear();
        }
    }
}
