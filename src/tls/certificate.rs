//! What a certificate says (RFC 5280): its name, and when it is valid. Whether it is to be trusted is decided elsewhere.
//! Invariant: a certificate that cannot be read has neither.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::attr::AttributeValue;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::time::Time;

/// A name that is longer is cut, so that lines with it stay readable; in characters.
const NAME_MAX: usize = 128;

/// From when to when the certificate is valid, in seconds since 1970.
pub fn span_s(certificate: &CertificateDer) -> Option<(u64, u64)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate.validity;
    let seconds = |time: Time| time.to_unix_duration().as_secs();
    Some((seconds(validity.not_before), seconds(validity.not_after)))
}

/// Why clients refuse it as that of a server, whoever has signed it; those by rustls do in any case.
pub fn doubt(certificate: &CertificateDer) -> Option<&'static str> {
    let certificate = Certificate::from_der(certificate).ok()?.tbs_certificate;
    let basic = certificate.get::<BasicConstraints>().ok()?;
    let names = certificate.get::<SubjectAltName>().ok()?;
    if basic.is_some_and(|(_, basic)| basic.ca) {
        Some(
            "is that of an authority, which clients refuse: make one with basicConstraints=CA:FALSE",
        )
    } else if names.is_none() {
        Some("names no server, so clients refuse it: make one with subjectAltName")
    } else {
        None
    }
}

/// Whose certificate it is: the common name of its subject, or else the first of its other names that is a host, a URI or
/// an address of mail.
pub fn name(certificate: &CertificateDer) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?.tbs_certificate;
    let attributes = certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut common = attributes.filter(|attribute| attribute.oid == CN);
    let name = common
        .find_map(|attribute| text(&attribute.value).filter(|name| !name.is_empty()))
        .or_else(|| {
            let (_, names) = certificate.get::<SubjectAltName>().ok()??;
            names.0.iter().find_map(other_name)
        });
    name.map(|name| cut(&name))
}

fn other_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name)
        | GeneralName::UniformResourceIdentifier(name)
        | GeneralName::Rfc822Name(name) => Some(name.to_string()).filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// The text of an attribute, in one of the alphabets that it may have.
fn text(value: &AttributeValue) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef>();
    let utf8 = utf8.map(|text| text.as_str().to_string());
    let printable = || value.decode_as::<PrintableStringRef>();
    let teletex = || value.decode_as::<TeletexStringRef>();
    let ia5 = || value.decode_as::<Ia5StringRef>();
    utf8.or_else(|_| printable().map(|text| text.as_str().to_string()))
        .or_else(|_| teletex().map(|text| text.as_str().to_string()))
        .or_else(|_| ia5().map(|text| text.as_str().to_string()))
        .ok()
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_MAX).collect()
}
