//! Which boot of the machine this is, and which of its clocks this process sees: times of CLOCK_BOOTTIME can be compared
//! only where both are the same. Invariant: nothing is guessed, and where the kernel does not tell the boot that is an error.

use std::fs;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::MetadataExt;

use siphasher::sip::SipHasher13;

/// The id of the boot, which the kernel draws anew at each; see random(4).
///
/// # Errors
/// /proc is not there, or shows only processes.
pub fn id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The 16 bytes of an id in hexadecimal, with dashes in between.
fn parse(text: &str) -> Option<[u8; 16]> {
    let digits: String = text
        .trim_end()
        .chars()
        .filter(|digit| *digit != '-')
        .collect();
    let is_id = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(&digits, 16).ok();
    number.filter(|_| is_id).map(u128::to_be_bytes)
}

/// The time namespace of this process, as a number; 0 where the kernel has none. See time_namespaces(7).
///
/// The kernel gives the number of a namespace that is gone to a later one. So the offset of the clock counts, too.
pub fn time_namespace() -> u64 {
    let Ok(namespace) = fs::metadata("/proc/self/ns/time") else {
        return 0;
    };
    let offsets = fs::read("/proc/self/timens_offsets").unwrap_or_default();
    let mut hash = SipHasher13::new();
    hash.write(&namespace.ino().to_le_bytes());
    hash.write(&offsets);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_boot_has_one_id() {
        let boot = id().unwrap();
        assert_ne!(boot, [0; 16]);
        assert_eq!(id().unwrap(), boot);
        let text = "00112233-4455-6677-8899-aabbccddeeff\n";
        let wanted = std::array::from_fn(|at| at as u8 * 0x11);
        assert_eq!(parse(text), Some(wanted));
        for bad in [
            "",
            "\n",
            "+0112233-4455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeffa",
            "00112233-4455-6677-8899-aabbccddeefg",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// What a test of this crate says of its namespace when it is run in another one.
    #[test]
    fn another_time_namespace_is_another_number() {
        let own = time_namespace();
        println!("namespace {own}");
        if std::env::var_os("DFLOCKD_TEST_INSIDE").is_some() {
            return;
        }
        assert_eq!(time_namespace(), own);
        assert_eq!(inside(&[]), Some(own));
        // Not every machine lets this user make one.
        for clock in ["--boottime=0", "--boottime=1000"] {
            let unshare = ["unshare", "--user", "--time", "--fork", clock];
            if let Some(other) = inside(&unshare) {
                assert_ne!(other, own, "{clock}");
            }
        }
    }

    fn inside(command: &[&str]) -> Option<u64> {
        let itself = std::env::current_exe().unwrap();
        let test = "sys::boot::tests::another_time_namespace_is_another_number";
        let words = command.iter().map(|word| (*word).to_string());
        let mut words = words.chain([itself.to_str().unwrap().to_string()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args([test, "--exact", "--nocapture"]);
        let output = command.env("DFLOCKD_TEST_INSIDE", "1").output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, number) = text.split_once("namespace ")?;
        number.lines().next()?.parse().ok()
    }
}
