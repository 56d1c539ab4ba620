use super::*;
use std::io::BufReader;

/// All rows, read `step` bytes at a time.
fn rows_by(text: &str, row_element: Option<&str>, step: usize) -> Result<Vec<String>, XmlError> {
    let reader = BufReader::with_capacity(step, text.as_bytes());
    let mut rows = XmlRows::new(reader, row_element.map(str::to_owned));
    let mut found = Vec::new();
    loop {
        let mut out = Vec::new();
        if !rows.next(&mut out)? {
            assert!(out.is_empty());
            return Ok(found);
        }
        found.push(String::from_utf8(out).unwrap());
    }
}

fn rows(text: &str, row_element: Option<&str>) -> Result<Vec<String>, XmlError> {
    rows_by(text, row_element, 4096)
}

#[test]
fn elements_become_objects_whatever_the_reads() {
    for (case, row, expected) in [
        ("children are properties", "<r><a>1</a><b>x</b></r>", r#"{"a":"1","b":"x"}"#),
        ("attributes", r#"<r id="7" k='v'/>"#, r#"{"@id":"7","@k":"v"}"#),
        ("text alone, of a row", "<r>abc</r>", r#"{"_value_":"abc"}"#),
        ("nothing, of a row", "<r/>", "{}"),
        ("nothing, of a child", "<r><a/><b></b></r>", r#"{"a":null,"b":null}"#),
        ("text beside attributes", r#"<r><p c="EUR">12.50</p></r>"#, r#"{"p":{"@c":"EUR","_value_":"12.50"}}"#),
        ("text beside children", "<r>one<a>1</a>two</r>", r#"{"a":"1","_value_":"onetwo"}"#),
        ("repeated children", "<r><a>1</a><b>2</b><a/><a>3</a></r>", r#"{"a":["1",null,"3"],"b":"2"}"#),
        ("repeated objects", "<r><a><b>1</b></a><a><b>2</b></a></r>", r#"{"a":[{"b":"1"},{"b":"2"}]}"#),
        ("white space between tags", "<r>\n  <a>1</a>\r\n</r>", r#"{"a":"1"}"#),
        ("white space within text", "<r><a> x\t</a></r>", r#"{"a":" x\t"}"#),
        ("white space alone", "<r><a> \n </a></r>", r#"{"a":null}"#),
        ("white space in CDATA", "<r><a><![CDATA[ ]]></a></r>", r#"{"a":" "}"#),
        ("CDATA is text", "<r><a>x<![CDATA[<b>&amp;</b>]]>y</a></r>", r#"{"a":"x<b>&amp;</b>y"}"#),
        ("an empty CDATA", "<r><a><![CDATA[]]></a></r>", r#"{"a":null}"#),
        ("entities", "<r><a>&lt;&amp;&gt;&quot;&apos;</a></r>", r#"{"a":"<&>\"'"}"#),
        ("character references", "<r><a>&#65;&#x20AC;&#10;</a></r>", r#"{"a":"A€\n"}"#),
        ("entities in attributes", r#"<r a="1&amp;2&#x41;"/>"#, r#"{"@a":"1&2A"}"#),
        ("comments and instructions part no text", "<r><a>x<!-- c -->y<?p i?>z</a></r>", r#"{"a":"xyz"}"#),
        ("line ends become one", "<r><a>x\r\ny</a></r>", r#"{"a":"x\ny"}"#),
        ("what JSON escapes", "<r><a>\\ \"\u{1}\u{7f}ä</a></r>", "{\"a\":\"\\\\ \\\"\\u0001\u{7f}ä\"}"),
        ("numbers stay strings", "<r><a>007</a><b>true</b></r>", r#"{"a":"007","b":"true"}"#),
        ("prefixes are kept", r#"<s:r s:k="1" l="2"><s:a>3</s:a></s:r>"#, r#"{"s:@k":"1","@l":"2","s:a":"3"}"#),
        ("text has its element's prefix", r#"<r><s:a k="1">x</s:a></r>"#, r#"{"s:a":{"@k":"1","s:_value_":"x"}}"#),
        ("namespaces are no attributes", r#"<r xmlns="u" xmlns:s="v" a="1"/>"#, r#"{"@a":"1"}"#),
        ("a greater-than in an attribute", r#"<r a="x>y"/>"#, r#"{"@a":"x>y"}"#),
        ("a name that text needs", "<r>x<_value_>y</_value_></r>", r#"{"_value_":["y","x"]}"#),
    ] {
        let text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root>{row}\n</root>\n");
        for step in [1, 5, 4096] {
            assert_eq!(rows_by(&text, None, step).unwrap(), [expected], "{case}, reads of {step}");
        }
    }
}

#[test]
fn many_names_are_found_again() {
    let names: Vec<String> = (0..100).map(|i| format!("n{i}")).collect();
    let once: String = names.iter().map(|n| format!("<{n}>x</{n}>")).collect();
    let expected: Vec<String> = names.iter().map(|n| format!("\"{n}\":[\"x\",\"x\"]")).collect();
    let found = rows(&format!("<root><r>{once}{once}</r></root>"), None).unwrap();
    assert_eq!(found, [format!("{{{}}}", expected.join(","))]);
}

#[test]
fn rows_are_the_elements_asked_for() {
    let text = "<c><x><b n='0'/></x><b n='1'><b n='2'/></b>text<y n='3'/><b n='4'/></c>";
    let first = r#"{"@n":"1","b":{"@n":"2"}}"#;
    for (case, row_element, expected) in [
        ("children of the root", None, vec![r#"{"b":{"@n":"0"}}"#, first, r#"{"@n":"3"}"#, r#"{"@n":"4"}"#]),
        ("an empty name is none", Some(""), vec![r#"{"b":{"@n":"0"}}"#, first, r#"{"@n":"3"}"#, r#"{"@n":"4"}"#]),
        ("a path", Some("c/b"), vec![first, r#"{"@n":"4"}"#]),
        ("a path with a slash before it", Some("/c/b"), vec![first, r#"{"@n":"4"}"#]),
        ("a longer path", Some("c/x/b"), vec![r#"{"@n":"0"}"#]),
        ("a name at any depth, never within a row", Some("b"), vec![r#"{"@n":"0"}"#, first, r#"{"@n":"4"}"#]),
        ("a path of another root", Some("d/b"), vec![]),
        ("a name in another case", Some("B"), vec![]),
        ("a path to the root", Some("/b"), vec![]),
    ] {
        assert_eq!(rows(text, row_element).unwrap(), expected, "{case}");
    }
    assert_eq!(rows("<r a='1'/>", Some("/r")).unwrap(), [r#"{"@a":"1"}"#]);
    assert_eq!(rows("<r a='1'/>", None).unwrap(), Vec::<String>::new());
}

#[test]
fn a_document_type_is_passed_over() {
    let text = "<!DOCTYPE c [<!ENTITY e \"<b/>\"><!ELEMENT c (b)*>]><c><b>1</b></c>";
    assert_eq!(rows(text, None).unwrap(), [r#"{"_value_":"1"}"#]);
    let text = text.replace("<b>1</b>", "<b>&e;</b>");
    let error = rows(&text, None).unwrap_err();
    assert!(error.to_string().contains("unknown entity &e;"), "{error}");
}

#[test]
fn positions_are_ends_of_rows() {
    let mut rows = XmlRows::new("<c> <b>1</b><b/> </c>".as_bytes(), None);
    let mut ends = Vec::new();
    while rows.next(&mut Vec::new()).unwrap() {
        ends.push(rows.position());
    }
    assert_eq!(ends, [12, 16]);
    assert_eq!(rows.position(), 21);
}

#[test]
fn what_is_not_well_formed_is_told_with_its_place() {
    for (case, text, byte, why) in [
        ("another end", "<c><b></c></b>", 6, "expected `</b>`"),
        ("an end without a start", "<c></c></b>", 7, "does not match any open tag"),
        ("an unknown entity", "<c><b>x&nbsp;</b></c>", 7, "unknown entity &nbsp;"),
        ("an unknown entity in an attribute", "<c><b a='&x;'/></c>", 3, "x"),
        ("an unknown entity outside rows", "<c>&nbsp;</c>", 3, "unknown entity"),
        ("an open reference", "<c><b>a & b</b></c>", 8, "reference not closed"),
        ("the same attribute twice", "<c><b a='1' a='2'/></c>", 3, "attribute"),
        ("an attribute without quotes", "<c><b a=1/></c>", 3, "attribute"),
        ("two roots", "<c/><d/>", 4, "second root"),
        ("text before the root", "x<c/>", 0, "outside the root"),
        ("text after the root", "<c/>\nx", 4, "outside the root"),
        ("no name", "<c><></c>", 3, "no name"),
        ("a tag cut short", "<c><b a='1", 3, "not closed"),
        ("a comment cut short", "<c/><!-- x", 4, "not closed"),
    ] {
        match rows(text, None) {
            Err(XmlError::Syntax { byte: at, why: said }) => {
                assert_eq!(at, byte, "{case}: {said}");
                assert!(said.contains(why), "{case}: {said}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_told() {
    let mut rows = XmlRows::new(&b"<c><b>\xff</b></c>"[..], None);
    let error = rows.next(&mut Vec::new()).unwrap_err();
    assert!(matches!(error, XmlError::Syntax { byte: 6, .. }), "{error}");
}

#[test]
fn a_document_cut_short_is_told() {
    for (text, end) in [("<c><b>1</b>", 11), ("<c><b>1", 7), ("<c>", 3)] {
        let error = rows(text, None).unwrap_err();
        assert!(matches!(error, XmlError::Truncated { byte } if byte == end), "{text}: {error}");
    }
    for text in ["", " \n", "<?xml version=\"1.0\"?>", "<!-- x -->"] {
        let error = rows(text, None).unwrap_err();
        assert!(matches!(error, XmlError::NoRows { .. }), "{text}: {error}");
    }
}

#[test]
fn depth_has_a_limit() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(rows(&nested(DEPTH_MAX), None).unwrap().len(), 1);
    let error = rows(&nested(DEPTH_MAX + 1), None).unwrap_err();
    assert!(matches!(error, XmlError::TooDeep { byte: 384 }), "{error}");
}

#[test]
fn length_has_a_limit() {
    let outcome = |text: &str| {
        let mut rows = XmlRows::new(BufReader::with_capacity(7, text.as_bytes()), None);
        rows.row_bytes_max = 100;
        let mut out = b"before".to_vec();
        let found = rows.next(&mut out);
        assert!(found.is_ok() || out == b"before");
        found
    };
    let long = "x".repeat(101);
    for (case, row) in [
        ("a text", format!("<b>{long}</b>")),
        ("an attribute", format!("<b a='{long}'/>")),
        ("a text in pieces", format!("<b>{}</b>", "xxxxx&amp;".repeat(20))),
        ("many children", format!("<b>{}</b>", "<i/>".repeat(21))),
        ("many names", format!("<b>{}</b>", (0..12).map(|i| format!("<i{i}/>")).collect::<String>())),
        ("what JSON escapes", format!("<b>{}</b>", "\\".repeat(60))),
    ] {
        let found = outcome(&format!("<c>{row}</c>"));
        assert!(matches!(found, Err(XmlError::RowTooLong { byte: 3 })), "{case}: {found:?}");
    }
    let found = outcome(&format!("<c> <!-- {long} --><b/></c>"));
    assert!(matches!(found, Err(XmlError::RowTooLong { byte: 4 })), "{found:?}");
    assert!(outcome(&format!("<c><b>{}</b></c>", "x".repeat(80))).unwrap());
    assert!(outcome(&format!("<c>{}</c>", "<b>xxxxxxxxxx</b>".repeat(20))).unwrap());
}

#[test]
fn a_source_that_fails_is_no_fault_of_the_document() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset"))
        }
    }
    let reader = BufReader::new("<c><b>1</b><b>".as_bytes().chain(Broken));
    let mut rows = XmlRows::new(reader, None);
    assert!(rows.next(&mut Vec::new()).unwrap());
    match rows.next(&mut Vec::new()) {
        Err(XmlError::Read { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
}
