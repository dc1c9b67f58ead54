//! The names in certificates: `<node>.<cluster>.litefs.internal`, one DNS SAN each.

use x509_parser::prelude::{GeneralName, X509Certificate};

/// Never a public name: `.internal` is reserved for private use (ICANN, 2024).
const DOMAIN: &str = "litefs.internal";

/// Why a word cannot name a node or a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a node or a cluster: use 1 to 63 letters, digits and hyphens, no hyphen at either end"
)]
pub struct IdentityNameError(pub String);

/// Checks that a word is one DNS label (RFC 1123, section 2.1).
pub(super) fn check(label: &str) -> Result<(), IdentityNameError> {
    let good = (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-');
    if good { Ok(()) } else { Err(IdentityNameError(label.to_owned())) }
}

/// The DNS name of a node. Lower case, as DNS names compare without regard to case.
pub(super) fn node(node: &str, cluster: &str) -> Result<String, IdentityNameError> {
    check(node)?;
    Ok(format!("{}.{}", node.to_ascii_lowercase(), self::cluster(cluster)?))
}

/// The part of the DNS name that all nodes of a cluster share.
pub(super) fn cluster(cluster: &str) -> Result<String, IdentityNameError> {
    check(cluster)?;
    Ok(format!("{}.{DOMAIN}", cluster.to_ascii_lowercase()))
}

/// The cluster's name out of what [`cluster`] made.
pub(super) fn cluster_of(name: &str) -> Option<&str> {
    name.strip_suffix(DOMAIN)?.strip_suffix('.').filter(|label| check(label).is_ok())
}

/// The node's name out of a certificate's DNS name, in lower case, if it is of this cluster.
pub(super) fn node_of(dns_name: &str, cluster: &str) -> Option<String> {
    let suffix = self::cluster(cluster).ok()?;
    let name = dns_name.to_ascii_lowercase();
    let label = name.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
    check(label).ok()?;
    Some(label.to_owned())
}

/// A certificate's DNS name, if it has exactly one.
pub(super) fn of_certificate<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let san = certificate.subject_alternative_name().ok()??;
    match san.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_in_and_comes_out() {
        let name = node("Node-1", "prod").expect("a good name");
        assert_eq!(name, "node-1.prod.litefs.internal");
        assert_eq!(node_of(&name, "PROD").as_deref(), Some("node-1"));
        assert_eq!(cluster_of("prod.litefs.internal"), Some("prod"));
    }

    #[test]
    fn foreign_names_are_not_taken_for_ours() {
        assert_eq!(node_of("a.other.litefs.internal", "prod"), None);
        assert_eq!(node_of("a.b.prod.litefs.internal", "prod"), None);
        assert_eq!(node_of("*.prod.litefs.internal", "prod"), None);
        assert_eq!(node_of("aprod.litefs.internal", "prod"), None);
        assert_eq!(node_of(".prod.litefs.internal", "prod"), None);
        for bad in ["", "-a", "a-", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
