//! People: who they are as a FHIR resource, and whose records they may open.

use serde::{Deserialize, Serialize};

use crate::clock::{Chance, Millis};
use crate::params;
use crate::store::db::{DbError, Row, Tx};

/// What kind of person signs in, which decides what they may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sees the patients they act for: first of all themselves.
    Patient,
    /// Sees every patient, or those of a panel.
    Practitioner,
    /// Sees the patients they act for.
    Related,
}

impl Kind {
    /// Every kind, with its name in the database and the FHIR type of such a person.
    const FACTS: [(Kind, &'static str, &'static str); 3] = [
        (Kind::Patient, "patient", "Patient"),
        (Kind::Practitioner, "practitioner", "Practitioner"),
        (Kind::Related, "related", "RelatedPerson"),
    ];

    /// The name in the database and in `/sandbox/people`.
    pub fn as_str(self) -> &'static str {
        Kind::FACTS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    fn from_name(name: &str) -> Result<Kind, DbError> {
        let known = Kind::FACTS.iter().find(|(_, n, _)| *n == name);
        known.map(|(kind, ..)| *kind).ok_or_else(|| DbError::Corrupt(format!("account kind {name}")))
    }

    /// The kind of the person that a FHIR type stands for.
    pub fn of_type(resource_type: &str) -> Option<Kind> {
        Kind::FACTS.iter().find(|(.., t)| *t == resource_type).map(|(kind, ..)| *kind)
    }
}

/// A person who can sign in.
#[derive(Clone, Debug)]
pub struct Account {
    /// The `sub` of their tokens: random, never reused, never a username.
    pub id: String,
    /// What they type.
    pub username: String,
    /// What they may see.
    pub kind: Kind,
    /// Their FHIR resource, relative: `Patient/…`.
    pub fhir_user: String,
    /// What they are called.
    pub name: String,
    /// A line about them for the sandbox's sign-in page.
    pub about: String,
    /// Whether they may open every record: a practitioner for whom no panel is set.
    pub sees_everyone: bool,
    /// Whether they were shut out.
    pub disabled: bool,
}

/// A patient whose record somebody may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActsFor {
    /// The Patient id.
    pub patient: String,
    /// `self`, `child`, …
    pub relationship: String,
}

/// Someone of the sandbox's own people, as `sandbox-data/people.json` lists them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// What they type.
    pub username: String,
    /// What they may see.
    pub kind: Kind,
    /// Their FHIR resource, relative.
    #[serde(rename = "fhirUser")]
    pub fhir_user: String,
    /// What they are called.
    pub name: String,
    /// A line about them.
    pub about: String,
    /// Whose records they may open, in order.
    #[serde(default)]
    pub acts_for: Vec<NewActsFor>,
}

/// One entry of [`NewAccount::acts_for`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewActsFor {
    /// The Patient id.
    pub patient: String,
    /// `self`, `child`, …
    pub relationship: String,
}

/// Accounts made at first sign-in come after the sandbox's own.
const LAST: i64 = i64::MAX;
const COLUMNS: &str = "id, username, kind, fhir_user, name, about, sees_everyone, disabled_ms IS NOT NULL";

impl Account {
    fn read(row: &Row<'_>) -> Result<Account, DbError> {
        Ok(Account {
            id: row.get(0)?,
            username: row.get(1)?,
            kind: Kind::from_name(&row.get::<String>(2)?)?,
            fhir_user: row.get(3)?,
            name: row.get(4)?,
            about: row.get(5)?,
            sees_everyone: row.get(6)?,
            disabled: row.get(7)?,
        })
    }

    /// The person of that `sub`.
    pub fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Account>, DbError> {
        tx.first(&format!("SELECT {COLUMNS} FROM accounts WHERE id = $1"), params![id], Account::read)
    }

    /// The person of that username.
    pub fn by_username(tx: &Tx<'_>, username: &str) -> Result<Option<Account>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE username = $1");
        tx.first(&sql, params![username], Account::read)
    }

    /// The person whose FHIR resource this is.
    pub fn by_fhir_user(tx: &Tx<'_>, fhir_user: &str) -> Result<Option<Account>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE fhir_user = $1");
        tx.first(&sql, params![fhir_user], Account::read)
    }

    /// The sandbox's own people, in the order of `sandbox-data/`.
    pub fn own_people(tx: &Tx<'_>) -> Result<Vec<Account>, DbError> {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE position < $1 ORDER BY position, id");
        tx.all(&sql, params![LAST], Account::read)
    }

    /// Keeps a new person; `position` orders the sandbox's own, `None` comes after them.
    pub fn insert(
        tx: &Tx<'_>,
        new: &NewAccount,
        position: Option<i64>,
        now: Millis,
        chance: &Chance,
    ) -> Result<Account, DbError> {
        let id = chance.id();
        tx.execute(
            "INSERT INTO accounts (id, username, kind, fhir_user, name, about, sees_everyone, position, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            params![
                &id,
                &new.username,
                new.kind.as_str(),
                &new.fhir_user,
                &new.name,
                &new.about,
                new.kind == Kind::Practitioner && new.acts_for.is_empty(),
                position.unwrap_or(LAST),
                now
            ],
        )?;
        for (position, entry) in (0_i64..).zip(&new.acts_for) {
            tx.execute(
                "INSERT INTO acts_for (account, patient, relationship, position, since_ms)
                 VALUES ($1, $2, $3, $4, $5)",
                params![&id, &entry.patient, &entry.relationship, position, now],
            )?;
        }
        Account::find(tx, &id)?.ok_or_else(|| DbError::Corrupt("a new account is not there".into()))
    }

    /// The patients whose records the person may open now, in order.
    pub fn acts_for(tx: &Tx<'_>, id: &str, now: Millis) -> Result<Vec<ActsFor>, DbError> {
        tx.all(
            "SELECT patient, relationship FROM acts_for
             WHERE account = $1 AND since_ms <= $2 AND (until_ms IS NULL OR until_ms > $2)
             ORDER BY position, patient",
            params![id, now],
            |row| Ok(ActsFor { patient: row.get(0)?, relationship: row.get(1)? }),
        )
    }

    /// Shuts the person out, or lets them in again (`None`).
    pub fn set_disabled(tx: &Tx<'_>, id: &str, since: Option<Millis>) -> Result<(), DbError> {
        tx.execute("UPDATE accounts SET disabled_ms = $2 WHERE id = $1", params![id, since]).map(drop)
    }

    /// Ends the person's right to act for a patient, from `until` on.
    pub fn stop_acting_for(tx: &Tx<'_>, id: &str, patient: &str, until: Millis) -> Result<(), DbError> {
        tx.execute(
            "UPDATE acts_for SET until_ms = $3 WHERE account = $1 AND patient = $2",
            params![id, patient, until],
        )
        .map(drop)
    }

    /// Whether the person may open this patient's record: whoever sees everyone any, everybody else those
    /// they act for.
    pub fn may_open(&self, acts_for: &[ActsFor], patient: &str) -> bool {
        self.sees_everyone || acts_for.iter().any(|entry| entry.patient == patient)
    }
}
