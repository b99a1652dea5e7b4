//! Text to expression: a parser by descent, with a limit to its depth.

use super::{Element, Elements, Node, Start, Step};

/// Deeper than any published search parameter (3), shallow enough for any stack.
const MAX_DEPTH: usize = 12;
/// Longer than any published search parameter (about 300).
const MAX_LENGTH: usize = 4096;

/// Why an expression could not be parsed, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {problem}")]
pub struct PathError {
    pub at: usize,
    pub problem: Problem,
}

/// What is wrong with an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0} was expected")]
    Expected(&'static str),
    #[error("this function is not one of those that search parameters use")]
    UnknownFunction,
    #[error("the text does not end")]
    OpenText,
    #[error("escapes in texts are not supported")]
    Escape,
    #[error("it is nested too deeply")]
    TooDeep,
    #[error("it is too long")]
    TooLong,
}

type Parsed<T> = Result<T, PathError>;

/// An expression, and the element or type whose members come next, where that is known.
struct Typed<'t> {
    node: Node<'t>,
    at: Option<String>,
}

impl<'t> From<Node<'t>> for Typed<'t> {
    fn from(node: Node<'t>) -> Self {
        Self { node, at: None }
    }
}

pub(super) fn parse<'t>(text: &'t str, elements: &Elements) -> Parsed<Node<'t>> {
    let mut parser = Parser { text, at: 0, depth: 0, elements };
    if text.len() > MAX_LENGTH {
        return Err(parser.error(Problem::TooLong));
    }
    let parsed = parser.expression(None)?;
    match parser.rest() {
        "" => Ok(parsed.node),
        _ => Err(parser.error(Problem::Expected("the end"))),
    }
}

struct Parser<'t, 'e> {
    text: &'t str,
    at: usize,
    depth: usize,
    elements: &'e Elements,
}

/// Each method takes `here`: the type whose members a bare name means, inside `where(...)`.
impl<'t> Parser<'t, '_> {
    fn expression(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(Problem::TooDeep));
        }
        self.depth += 1;
        let first = self.equality(here)?;
        let parsed = if self.rest_is_word("and") {
            let mut all = vec![first.node];
            while self.word("and") {
                all.push(self.equality(here)?.node);
            }
            Node::And(all).into()
        } else {
            first
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn equality(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        let left = self.union(here)?;
        let negated = if self.symbol("!=") {
            true
        } else if self.symbol("=") {
            false
        } else {
            return Ok(left);
        };
        let right = self.union(here)?;
        let node = Node::Equal { left: Box::new(left.node), right: Box::new(right.node), negated };
        Ok(node.into())
    }

    fn union(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        let first = self.typed(here)?;
        if !self.rest().starts_with('|') {
            return Ok(first);
        }
        let mut branches = vec![first.node];
        while self.symbol("|") {
            branches.push(self.typed(here)?.node);
        }
        Ok(Node::Union(branches).into())
    }

    fn typed(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        let mut parsed = self.steps(here)?;
        while self.word("as") {
            let name = self.name()?;
            parsed = cast(parsed, name);
        }
        if self.word("is") {
            let name = self.name()?;
            parsed = Node::Is(Box::new(parsed.node), name).into();
        }
        Ok(parsed)
    }

    fn steps(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        let mut parsed = self.start(here)?;
        loop {
            if self.symbol(".") {
                let name = self.name()?;
                parsed =
                    if self.symbol("(") { self.function(parsed, name)? } else { self.member(parsed, name) };
            } else if self.symbol("[") {
                let number = self.number()?;
                self.expect("]", "`]`")?;
                parsed = extend(parsed, Step::Index(number));
            } else {
                return Ok(parsed);
            }
        }
    }

    fn start(&mut self, here: Option<&str>) -> Parsed<Typed<'t>> {
        if self.symbol("(") {
            let inner = self.expression(here)?;
            self.expect(")", "`)`")?;
            return Ok(inner);
        }
        if self.rest().starts_with('\'') {
            return Ok(Node::Text(self.quoted()?).into());
        }
        let name = self.name()?;
        match name {
            "true" | "false" => return Ok(Node::Bool(name == "true").into()),
            _ => {}
        }
        // Types are written with a capital, members are not.
        if name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Ok(Typed { node: Node::Steps(Start::Type(name), Vec::new()), at: Some(name.to_owned()) });
        }
        let from_here = Typed { node: Node::Steps(Start::Here, Vec::new()), at: here.map(str::to_owned) };
        if self.symbol("(") { self.function(from_here, name) } else { Ok(self.member(from_here, name)) }
    }

    fn member(&self, of: Typed<'t>, name: &'t str) -> Typed<'t> {
        let key = of.at.as_ref().map(|at| format!("{at}.{name}"));
        let element = key.as_deref().and_then(|key| self.elements.get(key));
        let (step, at) = match (element, key) {
            (Some(element), Some(key)) => known_member(element, name, key),
            _ => (Step::Member(name, None), None),
        };
        Typed { at, ..extend(of, step) }
    }

    /// The rest of a call whose `name(` was read.
    fn function(&mut self, of: Typed<'t>, name: &'t str) -> Parsed<Typed<'t>> {
        let parsed = match name {
            "exists" => extend(of, Step::Exists),
            "resolve" => extend(of, Step::Resolve),
            "as" | "ofType" => {
                let type_name = self.name()?;
                cast(of, type_name)
            }
            "extension" => {
                Typed { at: Some("Extension".to_owned()), ..extend(of, Step::Extension(self.quoted()?)) }
            }
            "where" => {
                let test = self.expression(of.at.as_deref())?;
                let at = of.at.clone();
                Typed { at, ..extend(of, Step::Where(Box::new(test.node))) }
            }
            _ => return Err(self.error(Problem::UnknownFunction)),
        };
        self.expect(")", "`)`")?;
        Ok(parsed)
    }

    fn name(&mut self) -> Parsed<&'t str> {
        let rest = self.rest();
        let length = word_length(rest);
        if length == 0 || rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(self.error(Problem::Expected("a name")));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn number(&mut self) -> Parsed<usize> {
        let rest = self.rest();
        let length = word_length(rest);
        let number = rest[..length].parse();
        let number = number.map_err(|_| self.error(Problem::Expected("a number")))?;
        self.at += length;
        Ok(number)
    }

    fn quoted(&mut self) -> Parsed<&'t str> {
        self.expect("'", "a text in single quotes")?;
        // Spaces count from here on, so the text is taken as it stands.
        let rest = &self.text[self.at..];
        let length = rest.find('\'').ok_or_else(|| self.error(Problem::OpenText))?;
        if rest[..length].contains('\\') {
            return Err(self.error(Problem::Escape));
        }
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn expect(&mut self, symbol: &str, said: &'static str) -> Parsed<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.error(Problem::Expected(said))) }
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let is_next = self.rest().starts_with(symbol);
        if is_next {
            self.at += symbol.len();
        }
        is_next
    }

    fn rest_is_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        rest.starts_with(word) && word_length(rest) == word.len()
    }

    fn word(&mut self, word: &str) -> bool {
        let is_next = self.rest_is_word(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// What is left, without the spaces before it.
    fn rest(&mut self) -> &'t str {
        let rest = self.text[self.at..].trim_start_matches(' ');
        self.at = self.text.len() - rest.len();
        rest
    }

    fn error(&self, problem: Problem) -> PathError {
        PathError { at: self.at, problem }
    }
}

fn word_length(text: &str) -> usize {
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

fn known_member<'t>(element: &Element, name: &'t str, key: String) -> (Step<'t>, Option<String>) {
    if element.choice {
        let names = element.types.iter();
        let names = names.map(|type_| (json_name(name, type_), *type_));
        return (Step::Choice(names.collect()), None);
    }
    let [type_] = element.types[..] else {
        return (Step::Member(name, None), None);
    };
    match (type_.strip_prefix('@'), type_) {
        (Some(other), _) => {
            let step = Step::Member(name, Some("BackboneElement"));
            (step, Some(other.to_owned()))
        }
        // An element's own members are listed under its path, a type's under the type's name.
        (None, "BackboneElement" | "Element") => (Step::Member(name, Some(type_)), Some(key)),
        (None, _) => (Step::Member(name, Some(type_)), Some(type_.to_owned())),
    }
}

/// `value` of type `dateTime` is `valueDateTime` in JSON.
fn json_name(name: &str, type_: &str) -> Box<str> {
    let (first, rest) = type_.split_at(type_.len().min(1));
    format!("{name}{}{rest}", first.to_ascii_uppercase()).into()
}

fn extend<'t>(of: Typed<'t>, step: Step<'t>) -> Typed<'t> {
    let node = match of.node {
        Node::Steps(start, mut steps) => {
            steps.push(step);
            Node::Steps(start, steps)
        }
        node => Node::Steps(Start::Group(Box::new(node)), vec![step]),
    };
    Typed { node, at: of.at }
}

fn cast<'t>(mut of: Typed<'t>, name: &'t str) -> Typed<'t> {
    // Right after a choice a cast just picks among its names.
    if let Node::Steps(_, steps) = &mut of.node
        && let Some(Step::Choice(names)) = steps.last_mut()
    {
        names.retain(|(_, type_)| *type_ == name);
    } else {
        of = extend(of, Step::Cast(name));
    }
    Typed { at: Some(name.to_owned()), ..of }
}
