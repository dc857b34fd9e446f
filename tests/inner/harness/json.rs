//! A reader of JSON that is as strict as RFC 8259: what it takes, every client's parser takes. It is not fast.

/// A JSON value. Objects keep the order of their members and have no name twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The one value that this text is.
    pub fn parse(text: &str) -> Result<Json, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.blanks();
        if reader.at < text.len() {
            return Err(reader.wrong("something behind the value"));
        }
        Ok(value)
    }

    /// The member of this object, if it has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else {
            return None;
        };
        members
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    /// The member of this object.
    #[track_caller]
    pub fn field(&self, name: &str) -> &Json {
        let Json::Object(members) = self else {
            panic!("not an object: {self:?}");
        };
        let member = members.iter().find(|(n, _)| n == name);
        &member.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    #[track_caller]
    pub fn list(&self) -> &[Json] {
        match self {
            Json::List(list) => list,
            _ => panic!("not a list: {self:?}"),
        }
    }

    #[track_caller]
    pub fn number(&self) -> f64 {
        match self {
            Json::Number(number) => *number,
            _ => panic!("not a number: {self:?}"),
        }
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => panic!("not a text: {self:?}"),
        }
    }

    /// The element of this list whose `key` is this.
    #[track_caller]
    pub fn of_key(&self, key: &str) -> &Json {
        let found: Vec<&Json> = self
            .list()
            .iter()
            .filter(|element| element.field("key").text() == key)
            .collect();
        assert_eq!(found.len(), 1, "{key} in {self:?}");
        found[0]
    }

    /// The keys of this list's elements.
    #[track_caller]
    pub fn keys(&self) -> Vec<&str> {
        self.list()
            .iter()
            .map(|element| element.field("key").text())
            .collect()
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> String {
        format!("byte {}: {what}", self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let there = self.text[self.at..].starts_with(word);
        self.at += if there { word.len() } else { 0 };
        there
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth > 16 {
            return Err(self.wrong("too deep"));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.takes("null") => Ok(Json::Null),
            _ if self.takes("true") => Ok(Json::Bool(true)),
            _ if self.takes("false") => Ok(Json::Bool(false)),
            _ => Err(self.wrong("not a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        let mut members: Vec<(String, Json)> = Vec::new();
        self.at += 1;
        self.blanks();
        if self.takes("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("no name"));
            }
            let name = self.string()?;
            if members.iter().any(|(n, _)| *n == name) {
                return Err(self.wrong("a name twice"));
            }
            self.blanks();
            if !self.takes(":") {
                return Err(self.wrong("no colon"));
            }
            members.push((name, self.value(depth + 1)?));
            self.blanks();
            if self.takes("}") {
                return Ok(Json::Object(members));
            }
            if !self.takes(",") {
                return Err(self.wrong("no comma"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, String> {
        let mut elements = Vec::new();
        self.at += 1;
        self.blanks();
        if self.takes("]") {
            return Ok(Json::List(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.blanks();
            if self.takes("]") {
                return Ok(Json::List(elements));
            }
            if !self.takes(",") {
                return Err(self.wrong("no comma"));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mut string = String::new();
        self.at += 1;
        loop {
            let c = self.text[self.at..].chars().next();
            let c = c.ok_or_else(|| self.wrong("no end of a string"))?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(string),
                '\\' => string.push(self.escape()?),
                '\0'..='\x1f' => return Err(self.wrong("a control character")),
                _ => string.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.peek();
        self.at += 1;
        match c {
            Some(c @ (b'"' | b'\\' | b'/')) => Ok(char::from(c)),
            Some(b'b') => Ok('\x08'),
            Some(b'f') => Ok('\x0c'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => {
                let mut units = vec![self.unit()?];
                if (0xd800..0xdc00).contains(&units[0]) && self.takes("\\u") {
                    units.push(self.unit()?);
                }
                let c = char::decode_utf16(units).next().expect("there is a unit");
                c.map_err(|_| self.wrong("half a pair"))
            }
            _ => Err(self.wrong("not an escape")),
        }
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.wrong("not four hex digits"))?;
        self.at += 4;
        let digits = std::str::from_utf8(digits).expect("hex digits are ASCII");
        Ok(u16::from_str_radix(digits, 16).expect("four hex digits fit"))
    }

    fn digits(&mut self) -> Result<(), String> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from {
            return Err(self.wrong("no digit"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, String> {
        let from = self.at;
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _signed = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        let number = self.text[from..self.at].parse();
        Ok(Json::Number(number.expect("it has a number's grammar")))
    }
}

#[test]
fn the_checker_takes_json_and_nothing_else() {
    let good = [
        "{}",
        " [ ] ",
        "0",
        "-0.5e+3",
        r#""\u0000\n\ud83d\ude00é""#,
        r#"{"a":[1,2,{"b":null}],"c":true}"#,
    ];
    for text in good {
        assert!(Json::parse(text).is_ok(), "{text}");
    }
    let bad = [
        "",
        "{",
        "01",
        "1.",
        ".5",
        "+1",
        "NaN",
        "inf",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{} {}",
        "\"\x00\"",
        "\"\x1b\"",
        "\"\n\"",
        r#""\x41""#,
        r#""\ud800""#,
        r#""\u12""#,
        r#"{"a":1,"a":2}"#,
        "nul",
        "'a'",
    ];
    for text in bad {
        assert!(Json::parse(text).is_err(), "{text}");
    }
    assert_eq!(Json::parse(r#""\u00e9\"""#), Ok(Json::Text("é\"".into())));
}
