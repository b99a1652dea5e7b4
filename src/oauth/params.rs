//! A request's parameters, read once: encoding, number, length, duplicates.

use crate::error::{Problem, invalid_request};

/// More than this many parameters is never a mistake.
const MOST_PARAMETERS: usize = 1_000;

/// The decoded parameters of a query or form body, in their order.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes `application/x-www-form-urlencoded` text.
    ///
    /// # Errors
    /// `invalid_request` for bytes that are not UTF-8 (decoding them with substitutes would change
    /// what must be echoed), and for more parameters than any honest request has.
    pub fn parse(raw: &[u8]) -> Result<Self, Problem> {
        if raw.iter().filter(|&&b| b == b'&').count() >= MOST_PARAMETERS {
            return Err(invalid_request(format!(
                "there are more than {MOST_PARAMETERS} parameters; send each that is needed once"
            )));
        }
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(raw).into_owned().collect();
        match pairs.iter().find(|(n, v)| n.contains('\u{FFFD}') || v.contains('\u{FFFD}')) {
            None => Ok(Params(pairs)),
            Some(_) => Err(invalid_request("a parameter is not UTF-8; percent-encode its UTF-8 bytes")),
        }
    }

    /// The one value of `name`; an empty value counts as absent (RFC 6749 3.1).
    ///
    /// # Errors
    /// `invalid_request` where it stands more than once.
    pub fn one(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(invalid_request(format!("`{name}` is sent more than once; send it once")).at(name));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// Every value of `name`, in order, empty ones too.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = name.to_owned();
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// A name that stands more than once, though each may stand only once (RFC 6749 3.1, 3.2); but for
    /// `resource`, of which there may be several (RFC 8707 2).
    pub fn repeated(&self) -> Option<&str> {
        let repeats = |i: usize, name: &str| name != "resource" && self.0[..i].iter().any(|(n, _)| n == name);
        self.0.iter().enumerate().find(|(i, (n, _))| repeats(*i, n)).map(|(_, (n, _))| n.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once_and_empty_ones_are_absent() {
        let params = Params::parse(b"a=1%2B1+x&b=&c=%25").unwrap();
        assert_eq!(params.one("a").unwrap(), Some("1+1 x"));
        assert_eq!(params.one("b").unwrap(), None);
        assert_eq!(params.one("c").unwrap(), Some("%"));
        assert_eq!(params.one("d").unwrap(), None);
    }

    #[test]
    fn a_repeated_parameter_is_refused_by_name() {
        let params = Params::parse(b"a=1&b=2&a=3").unwrap();
        let problem = params.one("a").unwrap_err();
        assert_eq!(problem.parameter, Some("a"));
        assert_eq!(params.repeated(), Some("a"));
        assert_eq!(params.all("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(Params::parse(b"resource=1&resource=2").unwrap().repeated(), None);
    }

    #[test]
    fn ten_thousand_parameters_and_foreign_bytes_are_refused() {
        assert!(Params::parse("a=1&".repeat(10_000).as_bytes()).is_err());
        assert!(Params::parse(b"state=%ff%fe").is_err());
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(raw: Vec<u8>) {
            let _ = Params::parse(&raw);
        }
    }
}
