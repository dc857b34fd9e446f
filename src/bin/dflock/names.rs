//! Names that others have chosen, shown to a person or a shell. Invariant: a name moves no cursor, breaks no line, and two
//! of them never look the same.

/// A quoted word of sh(1), since others have chosen what is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The bytes that pairs of hexadecimal digits stand for.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// A name as a word that can be pasted into a shell: as it is if it is plain, in quotes if it is printable, and
/// otherwise in the form `$'\033'` of bash, ksh and zsh. A terminal would act on what is not printable.
pub fn pasted(name: &[u8]) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-+:,./@%".contains(c);
    let is_good = |c: char| is_plain(c) || is_printable(c);
    match std::str::from_utf8(name) {
        Ok(text) if text.chars().all(is_plain) => return text.to_string(),
        Ok(text) if text.chars().all(is_good) => return quoted(text),
        _ => {}
    }
    let mut word = "$'".to_string();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => word.extend(['\\', c]),
                c if is_good(c) => word.push(c),
                c => escape(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut word),
            }
        }
        escape(chunk.invalid(), &mut word);
    }
    word.push('\'');
    word
}

/// In octal, which has three digits at most; a shell may read more than two hexadecimal ones.
fn escape(bytes: &[u8], word: &mut String) {
    for byte in bytes {
        word.push_str(&format!("\\{byte:03o}"));
    }
}

/// Whether a terminal shows the character as one, and acts on nothing: control and format characters, and separators of
/// lines, are not printable.
fn is_printable(c: char) -> bool {
    match c {
        '\'' | '"' | '\\' => true,
        // Behind a letter, accents that combine with it are printable too.
        c => ['a', c].iter().collect::<String>().escape_debug().count() == 2,
    }
}
