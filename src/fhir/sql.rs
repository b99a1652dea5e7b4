//! A [`Reach`] and the criteria of a search, as SQL over the index: the same meaning as `matching.rs` and
//! `resource::within` give them on one resource.

use std::collections::BTreeSet;

use super::access::Reach;
use super::definitions::Kind;
use super::index::{identifier_param, keeps_owner, target_of};
use super::membership::Membership;
use super::operand::{Chain, Operand, Prefix, System};
use super::query::{Criterion, Modifier};
use super::resource::{limit_criterion, referred_to_sql};
use crate::store::db::Param;

/// The last character there is: a text that begins with `x` sorts before `x` followed by it.
const LAST_CHARACTER: char = '\u{10FFFF}';

/// SQL being written, with what it binds.
pub struct Sql<'a> {
    bound: Vec<Param>,
    /// This server's FHIR base.
    base: &'a str,
    /// What the caller reaches of another type, for chains: a chain through a forbidden type finds nothing.
    reach_of: &'a dyn Fn(&'static str) -> Reach,
    rows: usize,
}

impl<'a> Sql<'a> {
    /// Begins.
    pub fn new(base: &'a str, reach_of: &'a dyn Fn(&'static str) -> Reach) -> Self {
        Sql { bound: Vec::new(), base, reach_of, rows: 0 }
    }

    /// Everything bound so far, in order.
    pub fn into_bound(self) -> Vec<Param> {
        self.bound
    }

    /// Binds a value and answers its placeholder.
    pub fn bind(&mut self, value: impl Into<Param>) -> String {
        self.bound.push(value.into());
        format!("${}", self.bound.len())
    }

    /// Binds several and answers their placeholders, for a list.
    pub fn bind_all<'v>(&mut self, values: impl IntoIterator<Item = &'v String>) -> String {
        let placed: Vec<String> = values.into_iter().map(|v| self.bind(v)).collect();
        placed.join(", ")
    }

    /// A name for one more row of `resources`.
    fn row(&mut self) -> String {
        self.rows += 1;
        format!("r{}", self.rows)
    }

    /// The condition under which `row`, of that type, lies within the reach.
    pub fn reach(&mut self, reach: &Reach, resource_type: &'static str, row: &str) -> String {
        match reach {
            Reach::Nothing => "1 = 0".into(),
            Reach::All => "1 = 1".into(),
            Reach::Owner(patients) => format!("{row}.owner IN ({})", self.bind_all(patients)),
            Reach::Is(id) => format!("{row}.id = {}", self.bind(id)),
            Reach::Parameter(name, values) => match limit_criterion(resource_type, name, values, self.base) {
                Some(criterion) => self.criterion(&criterion, resource_type, row, None),
                None => "1 = 0".into(),
            },
            Reach::ReferredTo(patients) => {
                let patients = self.bind_all(patients);
                referred_to_sql(row, &patients)
            }
            Reach::ReferredFrom(source_type, reach) => {
                let source = self.row();
                let placed = self.bind(*source_type);
                let within = self.reach(reach, source_type, &source);
                format!(
                    "EXISTS (SELECT 1 FROM refers f JOIN resources {source}
                                 ON {source}.type = f.type AND {source}.id = f.id
                             WHERE f.to_type = {row}.type AND f.to_id = {row}.id AND f.type = {placed}
                               AND {within})"
                )
            }
            Reach::Both(parts) => self.joined(parts, " AND ", resource_type, row),
            Reach::Either(parts) => self.joined(parts, " OR ", resource_type, row),
        }
    }

    fn joined(&mut self, parts: &[Reach], word: &str, resource_type: &'static str, row: &str) -> String {
        let parts: Vec<String> = parts.iter().map(|part| self.reach(part, resource_type, row)).collect();
        format!("({})", parts.join(word))
    }

    /// The condition under which `row` meets a criterion. `owners`, where known, are the only patients the
    /// result can be about: it only makes the search shorter.
    pub fn criterion(
        &mut self,
        criterion: &Criterion,
        resource_type: &'static str,
        row: &str,
        owners: Option<&BTreeSet<String>>,
    ) -> String {
        let owners = owners.filter(|_| keeps_owner(resource_type));
        match criterion.param.code {
            "_id" | "_lastUpdated" => return self.of_row(criterion, row),
            _ => {}
        }
        let mut conditions = Vec::new();
        let mut found = Vec::new();
        for operand in &criterion.any {
            match operand {
                Operand::Missing(missing) => {
                    let any = self.any_value(criterion, resource_type, owners);
                    let not = if *missing { "NOT " } else { "" };
                    conditions.push(format!("{row}.key {not}IN ({any})"));
                }
                Operand::Chain(chain) => {
                    let targets = self.chain(chain);
                    let rows = self.rows_of(
                        "index_reference",
                        resource_type,
                        criterion.param.code,
                        owners,
                        &format!("target IN ({targets})"),
                    );
                    conditions.push(format!("{row}.key IN ({rows})"));
                }
                Operand::Has(chain) => {
                    let sources = self.has(criterion, chain);
                    conditions.push(format!("({row}.type || '/' || {row}.id) IN ({sources})"));
                }
                _ => found.extend(self.values(criterion, operand, resource_type, owners)),
            }
        }
        if !found.is_empty() {
            let not = if criterion.modifier == Some(Modifier::Not) { "NOT " } else { "" };
            conditions.push(format!("{row}.key {not}IN ({})", found.join(" UNION ALL ")));
        }
        match conditions.len() {
            0 if criterion.modifier == Some(Modifier::Not) => "1 = 1".into(),
            0 => "1 = 0".into(),
            _ => format!("({})", conditions.join(" OR ")),
        }
    }

    /// `_id` and `_lastUpdated`, which the row itself answers.
    fn of_row(&mut self, criterion: &Criterion, row: &str) -> String {
        let mut parts = Vec::new();
        for operand in &criterion.any {
            parts.push(match operand {
                Operand::Token { system: System::Any | System::None, code: Some(code) } => {
                    format!("{row}.id = {}", self.bind(code))
                }
                Operand::Date { prefix, span } => {
                    let (lo, hi) = (format!("{row}.updated_ms"), format!("({row}.updated_ms + 1)"));
                    self.span(*prefix, &lo, &hi, (span.lo, span.hi))
                }
                Operand::Missing(false) => "1 = 1".into(),
                _ => "1 = 0".into(),
            });
        }
        let any = parts.join(" OR ");
        if criterion.modifier == Some(Modifier::Not) { format!("NOT ({any})") } else { format!("({any})") }
    }

    /// The index rows of one parameter that fulfil `condition`.
    fn rows_of(
        &mut self,
        table: &str,
        resource_type: &str,
        param: &str,
        owners: Option<&BTreeSet<String>>,
        condition: &str,
    ) -> String {
        let (placed_type, placed_param) = (self.bind(resource_type), self.bind(param));
        // Ranges come after the owner in the index, so that saying it makes them one stretch.
        let owned = match owners {
            _ if is_about_nobody(resource_type) => " AND owner = ''".to_owned(),
            Some(owners) => format!(" AND owner IN ({})", self.bind_all(owners)),
            None => String::new(),
        };
        format!(
            "SELECT resource FROM {table} WHERE type = {placed_type} AND param = {placed_param}{owned} AND {condition}"
        )
    }

    fn any_value(
        &mut self,
        criterion: &Criterion,
        resource_type: &str,
        owners: Option<&BTreeSet<String>>,
    ) -> String {
        let code = criterion.param.code;
        let own = self.rows_of(table(criterion.param.kind), resource_type, code, owners, "1 = 1");
        if criterion.param.kind != Kind::Reference {
            return own;
        }
        let by_identifier =
            self.rows_of("index_token", resource_type, &identifier_param(code), owners, "1 = 1");
        format!("{own} UNION ALL {by_identifier}")
    }

    /// The rows that one operand finds; none where the operand can be no value of such a parameter.
    fn values(
        &mut self,
        criterion: &Criterion,
        operand: &Operand,
        resource_type: &str,
        owners: Option<&BTreeSet<String>>,
    ) -> Option<String> {
        let kind = criterion.param.kind;
        let mut param = criterion.param.code.to_owned();
        let (table, condition) = match operand {
            Operand::Token { system, code } => {
                if kind == Kind::Reference {
                    param = identifier_param(&param);
                } else if kind != Kind::Token {
                    return None;
                }
                let of_code = code.as_ref().map(|code| format!("code = {}", self.bind(code)));
                let of_system = match system {
                    System::Any => None,
                    System::None => Some("system = ''".to_owned()),
                    System::Is(system) => Some(format!("system = {}", self.bind(system))),
                };
                let both: Vec<String> = of_code.into_iter().chain(of_system).collect();
                ("index_token", if both.is_empty() { "1 = 1".into() } else { both.join(" AND ") })
            }
            Operand::Text { folded, exact } => (
                "index_string",
                match criterion.modifier {
                    Some(Modifier::Exact) => format!("exact = {}", self.bind(exact)),
                    // The one way to ask "contains" that every database spells alike.
                    Some(Modifier::Contains) => {
                        format!("replace(folded, {}, '') <> folded", self.bind(folded))
                    }
                    _ => format!(
                        "folded >= {} AND folded < {}",
                        self.bind(folded),
                        self.bind(format!("{folded}{LAST_CHARACTER}"))
                    ),
                },
            ),
            Operand::Date { prefix, span } => {
                ("index_date", self.span(*prefix, "lo", "hi", (span.lo, span.hi)))
            }
            Operand::Here { type_, id } => {
                let types = match type_ {
                    Some(one) => vec![*one],
                    None => criterion.param.targets().to_vec(),
                };
                let targets: Vec<String> = types.into_iter().map(|t| target_of(t, id)).collect();
                ("index_reference", format!("target IN ({})", self.bind_all(&targets)))
            }
            Operand::Elsewhere(url) => ("index_reference", format!("target = {}", self.bind(url))),
            Operand::Uri(uri) => ("index_uri", format!("uri = {}", self.bind(uri))),
            Operand::Number { prefix, number } => {
                ("index_number", self.number(*prefix, (number.value, number.lo, number.hi)))
            }
            Operand::Quantity { prefix, number, unit } => {
                let mut condition = self.number(*prefix, (number.value, number.lo, number.hi));
                if let Some(unit) = unit {
                    let code = self.bind(&unit.code);
                    condition += &match &unit.system {
                        Some(system) => format!(" AND code = {code} AND system = {}", self.bind(system)),
                        None => format!(" AND (code = {code} OR unit = {code})"),
                    };
                }
                ("index_quantity", condition)
            }
            Operand::Missing(_) | Operand::Chain(_) | Operand::Has(_) => return None,
        };
        Some(self.rows_of(table, resource_type, &param, owners, &condition))
    }

    /// `Type/id` of every resource that the rest of a chain finds.
    fn chain(&mut self, chain: &Chain) -> String {
        let row = self.row();
        let condition = self.reached(chain, &row);
        let placed = self.bind(chain.type_);
        format!(
            "SELECT {row}.type || '/' || {row}.id FROM resources {row} WHERE {row}.type = {placed} AND {condition}"
        )
    }

    /// `Type/id` of everything that a resource found by `_has` refers to.
    fn has(&mut self, criterion: &Criterion, chain: &Chain) -> String {
        let row = self.row();
        let condition = self.reached(chain, &row);
        let (placed_type, param) = (self.bind(chain.type_), self.bind(criterion.param.code));
        format!(
            "SELECT i.target FROM index_reference i JOIN resources {row} ON {row}.key = i.resource
             WHERE i.type = {placed_type} AND i.param = {param} AND {condition}"
        )
    }

    fn reached(&mut self, chain: &Chain, row: &str) -> String {
        let reach = (self.reach_of)(chain.type_);
        let reach = self.reach(&reach, chain.type_, row);
        let criterion = self.criterion(&chain.criterion, chain.type_, row, None);
        format!("{reach} AND {criterion}")
    }

    /// The table of prefixes in `matching.rs`, for spans. Only what is compared with is bound: a statement
    /// that is given more than it names is an error.
    fn span(&mut self, prefix: Prefix, lo: &str, hi: &str, (from, to): (i64, i64)) -> String {
        let mut is =
            |column: &str, operator: &str, value: i64| format!("{column} {operator} {}", self.bind(value));
        match prefix {
            // That it begins before the end follows, and keeps the reading of the index short.
            Prefix::Eq => {
                format!("({} AND {} AND {})", is(lo, ">=", from), is(lo, "<", to), is(hi, "<=", to))
            }
            Prefix::Ne => format!("NOT ({} AND {})", is(lo, ">=", from), is(hi, "<=", to)),
            Prefix::Gt => is(hi, ">", to),
            Prefix::Lt => is(lo, "<", from),
            Prefix::Ge => is(hi, ">", from),
            Prefix::Le => is(lo, "<", to),
            Prefix::Sa => is(lo, ">=", to),
            Prefix::Eb => is(hi, "<=", from),
            Prefix::Ap => format!("({} AND {})", is(hi, ">", from), is(lo, "<", to)),
        }
    }

    /// The same for numbers: precision counts for equality alone.
    fn number(&mut self, prefix: Prefix, (value, from, to): (f64, f64, f64)) -> String {
        let mut is =
            |column: &str, operator: &str, value: f64| format!("{column} {operator} {}", self.bind(value));
        match prefix {
            Prefix::Eq => format!("({} AND {})", is("lo", ">=", from), is("hi", "<", to)),
            Prefix::Ne => format!("NOT ({} AND {})", is("lo", ">=", from), is("hi", "<", to)),
            Prefix::Gt => is("hi", ">", value),
            Prefix::Lt => is("lo", "<", value),
            Prefix::Ge => is("hi", ">=", value),
            Prefix::Le => is("lo", "<=", value),
            Prefix::Sa => is("lo", ">", value),
            Prefix::Eb => is("hi", "<", value),
            Prefix::Ap => format!("({} AND {})", is("hi", ">=", from), is("lo", "<=", to)),
        }
    }
}

/// Whether all index rows of a type have the owner ''.
fn is_about_nobody(resource_type: &str) -> bool {
    use Membership::{Attachment, Nobody, Supporting};
    !keeps_owner(resource_type) || matches!(Membership::of(resource_type), Attachment | Nobody | Supporting)
}

/// The index table of a kind of parameter.
pub(super) fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Token => "index_token",
        Kind::Reference => "index_reference",
        Kind::Date => "index_date",
        Kind::String => "index_string",
        Kind::Uri => "index_uri",
        Kind::Quantity => "index_quantity",
        Kind::Number => "index_number",
        Kind::Composite | Kind::Special => "index_uri",
    }
}

/// The patients that everything found must be about, where reach or criteria say so.
pub fn owners(reach: &Reach, criteria: &[Criterion], resource_type: &str) -> Option<BTreeSet<String>> {
    let by_reach = match reach {
        Reach::Owner(patients) => Some(patients.clone()),
        Reach::Both(parts) => parts.iter().find_map(|part| match part {
            Reach::Owner(patients) => Some(patients.clone()),
            _ => None,
        }),
        _ => None,
    };
    by_reach.or_else(|| criteria.iter().find_map(|c| asked_owners(c, resource_type)))
}

/// `patient=…`, where having that patient and being about them are the same.
fn asked_owners(criterion: &Criterion, resource_type: &str) -> Option<BTreeSet<String>> {
    let single = matches!(Membership::of(resource_type), Membership::Element(e) if e != "participant");
    // An Account may name several patients; it is about none of them then, but still found by each.
    let says = single && resource_type != "Account" && matches!(criterion.param.code, "patient" | "subject");
    if !says || !matches!(criterion.modifier, None | Some(Modifier::Type("Patient"))) {
        return None;
    }
    let patients = criterion.any.iter().map(|operand| match operand {
        Operand::Here { type_: Some("Patient"), id } => Some(id.clone()),
        Operand::Here { type_: None, id } if criterion.param.code == "patient" => Some(id.clone()),
        _ => None,
    });
    patients.collect()
}
