//! Certificates and keys for tests, made by openssl(1) once for each test program, and gone with nobody: they lie in the
//! folder that Cargo gives to tests. Invariant: no key is older than the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::tools;

/// Two authorities and what they have signed. Each file is named by its path without the folder.
pub struct Pki(PathBuf);

/// The files, or None where there is no openssl.
pub fn pki() -> Option<&'static Pki> {
    static PKI: LazyLock<Option<Pki>> = LazyLock::new(|| {
        let name = format!("pki-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        tools::has("openssl", "openssl").then(|| Pki::make(folder))
    });
    PKI.as_ref()
}

impl Pki {
    fn make(folder: PathBuf) -> Pki {
        // Another program may have had the same id.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let pki = Pki(folder);
        for (name, script) in SCRIPTS {
            let made = Command::new("sh")
                .args(["-euc", script])
                .current_dir(&pki.0)
                .stdin(Stdio::null())
                .output()
                .expect("there is a shell");
            assert!(made.status.success(), "{name}: {made:?}");
        }
        pki
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> String {
        let path = self.0.join(name);
        assert!(path.exists(), "{name} was made");
        path.to_str().unwrap().to_string()
    }

    /// What is in one of the files.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The server's options for a certificate and its key.
    pub fn options(&self, cert: &str, key: &str) -> [String; 2] {
        let (cert, key) = (self.path(cert), self.path(key));
        [format!("--tls-cert={cert}"), format!("--tls-key={key}")]
    }
}

/// An authority; the server's certificate, by key of each kind and in each form; one that is about to end, one that has ended,
/// one of the first version; clients' certificates; and an authority that nobody knows.
const SCRIPTS: [(&str, &str); 6] = [
    (
        "authorities",
        "umask 077
         for ca in ca other-ca; do
             openssl ecparam -name prime256v1 -genkey -noout -out $ca.key
             openssl req -x509 -new -key $ca.key -subj \"/CN=$ca\" -days 3650 -out $ca.pem \
                 -addext basicConstraints=critical,CA:TRUE
         done
         openssl req -x509 -newkey rsa:2048 -nodes -keyout twin.key -subj /CN=ca -days 365 -out twin.pem \
             -addext basicConstraints=CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1",
    ),
    (
        "keys",
        "umask 077
         openssl ecparam -name prime256v1 -genkey -out server.key
         openssl pkcs8 -topk8 -nocrypt -in server.key -out server.pk8.key
         openssl pkcs8 -topk8 -passout pass:secret -in server.key -out locked.key
         openssl ec -aes128 -passout pass:secret -in server.key -out locked.sec1.key
         openssl genrsa -traditional -out rsa.key 2048
         openssl genrsa -traditional -out small.key 1024
         openssl ecparam -name prime256v1 -genkey -noout -out client.key",
    ),
    (
        "a way to sign",
        "cat >sign <<'END'
         name=$1 key=$2 subject=$3 names=$4 ca=$5; shift 5
         printf 'subjectAltName=%s\\nbasicConstraints=CA:FALSE\\n' \"$names\" >$name.ext
         openssl req -new -key $key -subj \"$subject\" -out $name.csr
         openssl x509 -req -in $name.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial \
             -extfile $name.ext -out $name.pem \"$@\"
END",
    ),
    (
        "servers",
        "sh -eu sign server server.key /CN=server DNS:localhost,IP:127.0.0.1 ca -days 365
         sh -eu sign rsa rsa.key /CN=server DNS:localhost,IP:127.0.0.1 ca -days 365
         sh -eu sign second rsa.key /CN=second DNS:localhost,IP:127.0.0.1 ca -days 200
         sh -eu sign short server.key /CN=server DNS:localhost,IP:127.0.0.1 ca -days 12
         cat server.pem ca.pem >chain.pem; cat ca.pem server.pem >upside-down.pem
         printf '\\357\\273\\277' | cat - server.pem >mark.pem; printf '\\357\\273\\277' | cat - server.key >mark.key
         head -c 1048577 /dev/zero | tr '\\0' '\\n' >long.pem",
    ),
    (
        "clients",
        "sh -eu sign client client.key '/O=ops/CN=worker 7' DNS:w7.example ca -days 365
         sh -eu sign unnamed client.key /O=ops DNS:w8.example ca -days 365
         sh -eu sign stranger client.key /CN=stranger DNS:localhost other-ca -days 365
         cat client.pem ca.pem ca.pem ca.pem >three.pem; cat three.pem ca.pem >four.pem",
    ),
    // `openssl ca` alone sets dates that are over.
    (
        "a certificate that has ended, and one of version 1",
        "mkdir demo; : >demo/index; echo 01 >demo/serial
         printf '%s\\n' '[ca]' 'default_ca=d' '[d]' 'database=demo/index' 'serial=demo/serial' \
             'new_certs_dir=demo' 'default_md=sha256' 'policy=p' '[p]' 'commonName=supplied' >demo/conf
         openssl ca -batch -config demo/conf -cert ca.pem -keyfile ca.key -in server.csr -out old.pem \
             -startdate 20200101000000Z -enddate 20210101000000Z -notext
         echo 02 >demo/serial; : >demo/index
         openssl ca -batch -config demo/conf -cert ca.pem -keyfile ca.key -in server.csr -out ended.pem \
             -extfile server.ext -startdate 20200101000000Z -enddate 20210101000000Z -notext",
    ),
];
