//! Both directions, table by table: pairs of JSON and XML, what is refused and how, and what XML cannot hold.

use crate::fhir::json::Document;
use crate::fhir::json::Kind;
use crate::fhir::json::Value;
use crate::fhir::xml::to_json;
use crate::fhir::xml::to_xml;
use std::time::Duration;
use std::time::Instant;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// The value with members by name and strings as they read: two texts that say the same come out the same. Numbers keep their text.
pub fn sorted(value: Value<'_>) -> String {
    match value.kind() {
        Kind::Object => {
            // XML cannot tell an array of nothing but `null` from none.
            let is_nothing = |value: &Value<'_>| value.kind() == Kind::Array && value.items().all(|item| item.is_null());
            let members = value.members().filter(|(_, value)| !is_nothing(value));
            let mut members: Vec<String> = members.map(|(name, value)| format!("{name:?}:{}", sorted(value))).collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        Kind::Array => format!("[{}]", value.items().map(sorted).collect::<Vec<_>>().join(",")),
        Kind::String => format!("{:?}", value.as_str().unwrap_or_default()),
        Kind::Null | Kind::Bool | Kind::Number => value.raw().to_owned(),
    }
}

fn sorted_text(json: &str) -> String {
    sorted(Document::parse_str(json).expect(json).root())
}

fn xml_of(json: &str) -> String {
    let document = Document::parse_str(json).expect(json);
    to_xml(document.root(), false).unwrap_or_else(|e| panic!("{:?}: {json}", e.internal))
}

fn json_of(xml: &str) -> String {
    to_json(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}: {xml}"))
}

/// Status and issues (expression and text) of what is refused.
fn refused(xml: &str) -> (u16, Vec<(String, String)>) {
    let outcome = to_json(xml.as_bytes()).expect_err(xml);
    let issues = outcome.issues.iter().map(|i| (i.expression.clone(), i.text.clone()));
    (outcome.status(), issues.collect())
}

fn patient(inner: &str) -> String {
    format!("<Patient xmlns=\"http://hl7.org/fhir\">{inner}</Patient>")
}

/// JSON without its resourceType, and the XML of it inside `<Patient>`.
const PAIRS: &[(&str, &str)] = &[
    (r#""id":"a","active":true"#, r#"<id value="a"/><active value="true"/>"#),
    // The order of the definition, whatever that of the JSON.
    (
        r#""birthDate":"1980-01","gender":"male","name":[{"given":["A","B"],"family":"R"}],"id":"a""#,
        r#"<id value="a"/><name><family value="R"/><given value="A"/><given value="B"/></name><gender value="male"/><birthDate value="1980-01"/>"#,
    ),
    // Ids of elements are attributes, so is the url of an extension; decimals keep their text.
    (
        r#""extension":[{"id":"e","url":"http://x","valueDecimal":1.10},{"url":"http://y","valueDecimal":-1E-5}]"#,
        r#"<extension id="e" url="http://x"><valueDecimal value="1.10"/></extension><extension url="http://y"><valueDecimal value="-1E-5"/></extension>"#,
    ),
    // Primitives with ids and extensions, alone and in arrays with holes.
    (
        r#""birthDate":"1980","_birthDate":{"id":"b","extension":[{"url":"u","valueString":"x"}]}"#,
        r#"<birthDate id="b" value="1980"><extension url="u"><valueString value="x"/></extension></birthDate>"#,
    ),
    (
        r#""_birthDate":{"extension":[{"url":"u","valueCode":"unknown"}]}"#,
        r#"<birthDate><extension url="u"><valueCode value="unknown"/></extension></birthDate>"#,
    ),
    (
        r#""name":[{"given":["A",null,"C"],"_given":[null,{"extension":[{"url":"u","valueBoolean":false}]},{"id":"c"}]}]"#,
        r#"<name><given value="A"/><given><extension url="u"><valueBoolean value="false"/></extension></given><given id="c" value="C"/></name>"#,
    ),
    // Choices, and extensions in extensions.
    (
        r#""extension":[{"url":"a","extension":[{"url":"b","valueQuantity":{"value":0.10,"unit":"mg"}}]}],"deceasedDateTime":"2020""#,
        r#"<extension url="a"><extension url="b"><valueQuantity><value value="0.10"/><unit value="mg"/></valueQuantity></extension></extension><deceasedDateTime value="2020"/>"#,
    ),
    // Resources in resources.
    (
        r##""contained":[{"resourceType":"Organization","id":"o","name":"O"},{"resourceType":"Basic","id":"b"}],"managingOrganization":{"reference":"#o"}"##,
        r##"<contained><Organization><id value="o"/><name value="O"/></Organization></contained><contained><Basic><id value="b"/></Basic></contained><managingOrganization><reference value="#o"/></managingOrganization>"##,
    ),
    // The narrative as it stands: spaces, quotes, comments, CDATA, references.
    (
        r#""text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\" >\n <p class='a'>1 &lt; 2 &#233; é</p><br/><!-- c --><![CDATA[<b>]]></div>"}"#,
        "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\" >\n <p class='a'>1 &lt; 2 &#233; é</p><br/><!-- c --><![CDATA[<b>]]></div></text>",
    ),
    // White space that XML would read as a space, in a narrative too.
    (
        r#""text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\" title='a\nb\t\"&amp;'>x\r\n\ty</div>"}"#,
        "<text><status value=\"generated\"/><div xmlns=\"http://www.w3.org/1999/xhtml\" title='a&#10;b&#9;\"&amp;'>x&#13;\n\ty</div></text>",
    ),
    // What XML would read otherwise is escaped.
    (
        r#""name":[{"text":" a\t\"b\"\n<c> & 'd'\r\n "}]"#,
        r#"<name><text value=" a&#9;&quot;b&quot;&#10;&lt;c&gt; &amp; 'd'&#13;&#10; "/></name>"#,
    ),
    (
        r#""name":[{"text":"日本 😀 \u0085"}]"#,
        "<name><text value=\"日本 😀 \u{85}\"/></name>",
    ),
];

#[test]
fn json_and_xml_of_a_resource_say_the_same() {
    for (json, xml) in PAIRS {
        let json = format!(r#"{{"resourceType":"Patient",{json}}}"#);
        let xml = patient(xml);
        assert_eq!(xml_of(&json), format!("{HEAD}{xml}"));
        assert_eq!(sorted_text(&json_of(&xml)), sorted_text(&json), "{xml}");
    }
}

#[test]
fn bundles_and_parameters_hold_their_resources() {
    let pairs = [
        (
            r#"{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:x","resource":{"resourceType":"Patient","id":"a"},"request":{"method":"PUT","url":"Patient/a"}},{"request":{"method":"DELETE","url":"Patient/b"}}]}"#,
            r#"<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><fullUrl value="urn:x"/><resource><Patient><id value="a"/></Patient></resource><request><method value="PUT"/><url value="Patient/a"/></request></entry><entry><request><method value="DELETE"/><url value="Patient/b"/></request></entry></Bundle>"#,
        ),
        (
            r#"{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","valueUri":"u"}]},{"name":"resource","resource":{"resourceType":"Patient","active":true}}]}"#,
            r#"<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="a"/><part><name value="b"/><valueUri value="u"/></part></parameter><parameter><name value="resource"/><resource><Patient><active value="true"/></Patient></resource></parameter></Parameters>"#,
        ),
    ];
    for (json, xml) in pairs {
        assert_eq!(xml_of(json), format!("{HEAD}{xml}"));
        assert_eq!(sorted_text(&json_of(xml)), sorted_text(json));
    }
}

#[test]
fn xml_may_be_written_in_other_ways() {
    let wanted = r#"{"resourceType":"Patient","id":"a","text":{"status":"empty","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>x</p></div>"},"active":true}"#;
    let head = "\u{feff}<?xml version='1.0' encoding='utf-8' standalone=\"yes\"?>\r\n<?xml-stylesheet href=\"x\"?><!-- DOCTYPE -->";
    let own = r#"<div xmlns="http://www.w3.org/1999/xhtml"><p>x</p></div>"#;
    for xml in [
        format!(
            "{head}<Patient xmlns='http://hl7.org/fhir'>\r\n\t<id value='a'></id ><!-- x --><?y z?><text><status\nvalue = \"empty\" />{own}</text>\n<active value=\"&#116;ru&#x65;\"/>\n</Patient>\n<!-- end -->\n"
        ),
        format!(
            r#"<f:Patient xmlns:f="http://hl7.org/fhir"><f:id value="a"/><f:text><f:status value="empty"/>{own}</f:text><f:active value="true"/></f:Patient>"#
        ),
        r#"<Patient xmlns="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><id value="a"/><text><status value="empty"/><h:div><h:p>x</h:p></h:div></text><active value="true"/></Patient>"#.to_owned(),
        format!(
            r#"<Patient xmlns="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir x.xsd"><id value="a"/><text><status value="empty"/>{own}</text><active value="true"/></Patient>"#
        ),
    ] {
        let json = json_of(&xml);
        // Prefixes leave the namespace to be said, but for that the narrative is the same.
        assert_eq!(sorted_text(&json), sorted_text(wanted), "{xml}");
    }
    // White space in an attribute is a space, as XML has it, unless it is escaped.
    let json = json_of(&patient("<name><text value=\"a\r\nb\tc&#10;d\"/></name>"));
    assert_eq!(json, r#"{"resourceType":"Patient","name":[{"text":"a b c\nd"}]}"#);
}

#[test]
fn what_is_not_well_formed_is_refused_with_its_place() {
    let spaced = |n: usize| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
    let declared = |n: usize| (0..n).map(|i| format!(" xmlns:a{i}='http://hl7.org/fhir'")).collect::<String>();
    for (xml, what) in [
        ("".to_owned(), "there is no element at line 1, column 1"),
        ("x".to_owned(), "text outside of the root element"),
        ("{}".to_owned(), "text outside of the root element"),
        ("<!DOCTYPE Patient><Patient/>".to_owned(), "DOCTYPE"),
        ("<!doctype x>".to_owned(), "DOCTYPE"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><Patient/>".to_owned(), "DOCTYPE"),
        (patient("<!DOCTYPE x>"), "DOCTYPE"),
        (patient("<!ENTITY a 'b'>"), "markup that does not end, or that XML does not have"),
        (patient("<id value=\"&xxe;\"/>"), "a reference other than"),
        (patient("<id value=\"&nbsp;\"/>"), "a reference other than"),
        (patient("&nbsp;"), "a reference other than"),
        (patient("<id value=\"&#0;\"/>"), "a reference other than"),
        (patient("<id value=\"&#x1;\"/>"), "a reference other than"),
        (patient("<id value=\"&#xD800;\"/>"), "a reference other than"),
        (patient("<id value=\"&#+65;\"/>"), "a reference other than"),
        (patient("<id value=\"&#99999999999;\"/>"), "a reference other than"),
        (patient("<id value=\"&amp\"/>"), "a reference other than"),
        (patient("a & b"), "& without a reference"),
        (patient("<id value=\"<\"/>"), "< in an attribute"),
        (patient("<id value=a/>"), "an attribute without a value in quotes"),
        (patient("<id value/>"), "an attribute without a value in quotes"),
        (patient("<id value=\"a\"id=\"b\"/>"), "an attribute without white space before it"),
        (patient("<id value=\"a\" value=\"b\"/>"), "an attribute that its element has twice"),
        (patient("<id v!=\"a\"/>"), "without a name that XML and FHIR have"),
        (patient("<1 value=\"a\"/>"), "a tag without a name that XML and FHIR have"),
        (patient("<:id value=\"a\"/>"), "a tag without a name that XML and FHIR have"),
        (
            patient("<id value=\"a\"></name>"),
            "an end tag with another name than its start tag",
        ),
        (patient("<id"), "at line 1, column"),
        (
            "<Patient xmlns=\"http://hl7.org/fhir\">\n <id value=\"a\"/>".to_owned(),
            "the text ends before its elements do at line 2, column 17",
        ),
        (format!("{}</Patient>", patient("")), "an end tag without a start tag"),
        (format!("{0}{0}", patient("")), "a second root element"),
        (format!("{}x", patient("")), "text outside of the root element"),
        (patient("<!-- a -- b -->"), "-- in a comment"),
        (patient("a ]]> b"), "]]> in a text"),
        (
            patient("<id value=\"\u{1}\"/>"),
            "a character that XML does not allow, not even escaped at line 1, column 49",
        ),
        (patient("<id value=\"\u{ffff}\"/>"), "a character that XML does not allow"),
        (format!(" {HEAD}{}", patient("")), "an XML declaration stands at the very beginning"),
        (format!("<?xml version=\"1.1\"?>{}", patient("")), "an XML declaration other than"),
        (
            format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{}", patient("")),
            "an XML declaration other than",
        ),
        (
            format!("<?xml encoding=\"UTF-8\"?>{}", patient("")),
            "an XML declaration other than",
        ),
        ("<Patient/>".to_owned(), "an element without a namespace"),
        ("<f:Patient/>".to_owned(), "a prefix that no xmlns declares"),
        (
            "<Patient xmlns=\"http://hl7.org/FHIR\"/>".to_owned(),
            "a namespace that FHIR does not have",
        ),
        (
            patient("<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>"),
            "a namespace that FHIR does not have",
        ),
        (
            patient("<id xmlns:x=\"urn:x\" x:a=\"\" value=\"a\"/>"),
            "a namespace that FHIR does not have",
        ),
        (patient("<id x:a=\"\" value=\"a\"/>"), "a prefix that no xmlns declares"),
        (patient(&format!("<id{}/>", spaced(65))), "an element with more than 64 attributes"),
        (
            format!("<Patient xmlns=\"http://hl7.org/fhir\"{}/>", declared(32)),
            "more than 32 namespaces around one element",
        ),
        (patient(&"<a>".repeat(300)), "nested deeper than 256 levels"),
        (
            patient(&format!("<extension url=\"u\">{}", "<extension url=\"u\">".repeat(60))),
            "a resource nested deeper than 100 levels",
        ),
    ] {
        let (status, issues) = refused(&xml);
        assert_eq!(status, 400, "{xml}");
        assert!(issues[0].1.contains(what), "{}: {xml}", issues[0].1);
    }
    let latin = b"<Patient xmlns=\"http://hl7.org/fhir\"><name><text value=\"\xe8\"/></name></Patient>";
    let told = to_json(latin).expect_err("not UTF-8").to_string();
    assert!(told.contains("bytes that are not UTF-8 at line 1, column 57"), "{told}");
}

#[test]
fn what_r4_does_not_have_is_told_with_its_path_and_what_would_be_right() {
    let xhtml = "xmlns=\"http://www.w3.org/1999/xhtml\"";
    for (inner, expression, text) in [
        (
            "<nome value=\"x\"/>",
            "Patient.nome",
            "Patient has no such element; it has id, meta, implicitRules",
        ),
        ("<_birthDate value=\"x\"/>", "Patient._birthDate", "Patient has no such element"),
        ("<resourceType value=\"x\"/>", "Patient.resourceType", "Patient has no such element"),
        (
            "<deceased value=\"true\"/>",
            "Patient.deceased",
            "deceased needs its type in its name: deceasedBoolean, deceasedDateTime",
        ),
        ("<name/><name><use><x/></use></name>", "Patient.name[0]", "the element is empty"),
        (
            "<name><family value=\"a\"/></name><name><use value=\"usual\"><x/></use></name>",
            "Patient.name[1].use.x",
            "Element has no such element; it has extension",
        ),
        (
            "<name><id value=\"x\"/></name>",
            "Patient.name[0].id",
            "id is an attribute here: id=\"...\"",
        ),
        (
            "<extension><url value=\"x\"/></extension>",
            "Patient.extension[0].url",
            "url is an attribute here",
        ),
        (
            "<name value=\"x\"/>",
            "Patient.name[0]",
            "the element has no attribute value; it has id",
        ),
        (
            "<birthDate value=\"1980\" system=\"x\"/>",
            "Patient.birthDate",
            "the element has no attribute system; it has id and value",
        ),
        ("<gender>male</gender>", "Patient.gender", "a value is written value=\"...\""),
        ("<gender/>", "Patient.gender", "the element is empty"),
        ("<name><given/></name>", "Patient.name[0].given[0]", "the element is empty"),
        (
            "<gender value=\"male\"/><gender value=\"male\"/>",
            "Patient.gender",
            "the element may stand once only",
        ),
        (
            "<birthDate value=\"1980\"/><gender value=\"male\"/>",
            "Patient.gender",
            "gender stands before birthDate",
        ),
        (
            "<name><given value=\"a\"/><family value=\"b\"/><given value=\"c\"/></name>",
            "Patient.name[0].family",
            "family stands before given",
        ),
        (
            "<deceasedBoolean value=\"true\"/><deceasedDateTime value=\"2020\"/>",
            "Patient.deceased",
            "deceased[x] may have one type only",
        ),
        ("<active value=\"yes\"/>", "Patient.active", "expected true or false"),
        (
            "<multipleBirthInteger value=\"+1\"/>",
            "Patient.multipleBirth",
            "expected a whole number",
        ),
        (
            "<multipleBirthInteger value=\" 1\"/>",
            "Patient.multipleBirth",
            "expected a whole number",
        ),
        (
            "<extension url=\"u\"><valueDecimal value=\".5\"/></extension>",
            "Patient.extension[0].value",
            "expected a decimal",
        ),
        (
            "<contained><Nothing/></contained>",
            "Patient.contained[0]",
            "the element names no resource type of R4",
        ),
        (
            "<contained><id value=\"x\"/></contained>",
            "Patient.contained[0]",
            "the element names no resource type of R4",
        ),
        ("<contained/>", "Patient.contained[0]", "the element holds no resource"),
        ("<contained>x</contained>", "Patient.contained[0]", "text stands here"),
        (
            "<contained id=\"x\"><Basic><id value=\"a\"/></Basic></contained>",
            "Patient.contained[0]",
            "the element has no attributes, and so none named id",
        ),
        (
            "<contained><Basic><id value=\"a\"/></Basic><Basic/></contained>",
            "Patient.contained[0]",
            "the element holds one resource only",
        ),
        (
            "<contained><Basic id=\"a\"><id value=\"a\"/></Basic></contained>",
            "Patient.contained[0]",
            "the id of a resource is an element",
        ),
        (
            "<text><status value=\"generated\"/><div>x</div></text>",
            "Patient.text.div",
            "the element is in the namespace http://www.w3.org/1999/xhtml",
        ),
    ] {
        let (status, issues) = refused(&patient(inner));
        assert_eq!(status, 422, "{inner}");
        assert!(issues[0].0 == expression && issues[0].1.contains(text), "{inner}: {issues:?}");
    }
    let (status, issues) = refused(&patient(&format!("<birthDate {xhtml} value=\"1980\"/>")));
    assert_eq!((status, issues[0].0.as_str()), (422, "Patient.birthDate"));
    // All of it is told at once.
    let (_, issues) = refused(&patient("<active value=\"x\"/><x/><gender/>"));
    assert_eq!(
        issues.iter().map(|i| i.0.as_str()).collect::<Vec<_>>(),
        ["Patient.active", "Patient.x", "Patient.gender"]
    );
    let (_, issues) = refused(&patient(&"<x/>".repeat(1_000)));
    assert_eq!(
        (issues.len(), issues[99].1.as_str()),
        (100, "more than 100 issues (ISSUES_MAX): the rest is not listed")
    );
    assert_eq!(refused("<div xmlns=\"http://www.w3.org/1999/xhtml\"/>").0, 422);
    assert_eq!(
        refused("<Resource xmlns=\"http://hl7.org/fhir\"><id value=\"a\"/></Resource>").0,
        422
    );
}

#[test]
fn a_narrative_is_xhtml_and_nothing_else() {
    let narrative = |div: &str| patient(&format!("<text><status value=\"generated\"/>{div}</text>"));
    for div in [
        "<div xmlns=\"http://www.w3.org/1999/xhtml\">&nbsp;</div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p title=\"&nbsp;\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><svg xmlns=\"http://www.w3.org/2000/svg\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p xmlns=\"\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p xmlns=\"http://hl7.org/fhir\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\" xmlns:x=\"http://www.w3.org/1999/xlink\"><a x:href=\"y\"/></div>",
        "<div xmlns=\"http://www.w3.org/1999/xhtml\"><è/></div>",
        "<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\" xmlns=\"http://hl7.org/fhir\"/>",
    ] {
        assert_eq!(refused(&narrative(div)).0, 400, "{div}");
    }
    // What validation looks for cannot hide behind a prefix.
    let hidden = narrative("<h:div xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:script>x</h:script></h:div>");
    assert!(json_of(&hidden).contains("<script>x</script>"));
    let lines = narrative("<div xmlns=\"http://www.w3.org/1999/xhtml\"\n title=\"a\n\tb&#xA;c&#33;\">\n</div>");
    assert!(
        json_of(&lines).contains(r#"xhtml\"\n title=\"a  b\nc&#33;\">\n</div>"#),
        "{}",
        json_of(&lines)
    );
    let instruction = narrative("<div xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"it\"><?php x?>a</div >");
    assert!(json_of(&instruction).contains(r#"<div xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"it\">a</div>"#));
}

#[test]
fn what_xml_cannot_hold_is_written_otherwise_and_the_xml_stays_well_formed() {
    let div = |div: &str| {
        let mut quoted = String::new();
        crate::fhir::json::quote_into(div, &mut quoted);
        let xml = xml_of(&format!(
            r#"{{"resourceType":"Patient","text":{{"status":"generated","div":{quoted}}}}}"#
        ));
        json_of(&xml);
        let begin = xml.find("<status value=\"generated\"/>").expect("status") + 27;
        xml[begin..xml.len() - "</text></Patient>".len()].to_owned()
    };
    const OPEN: &str = "<div xmlns=\"http://www.w3.org/1999/xhtml\">";
    for (json, xml) in [
        (" <div>a</div>\n", format!("{OPEN}a</div>")),
        ("<div/>", "<div xmlns=\"http://www.w3.org/1999/xhtml\"/>".to_owned()),
        ("<div>a\r\nb\rc</div>", format!("{OPEN}a&#13;\nb&#13;c</div>")),
        (
            "<div><p\r\ntitle='\r'/><!-- \r --></div>",
            format!("{OPEN}<p\ntitle='&#13;'/><!-- \n --></div>"),
        ),
        ("<div>a<?x y?></div>", format!("{OPEN}a</div>")),
        // What is no XHTML is shown as it stands.
        ("<div>a < b</div>", format!("{OPEN}&lt;div&gt;a &lt; b&lt;/div&gt;</div>")),
        ("<div>&nbsp;</div>", format!("{OPEN}&lt;div&gt;&amp;nbsp;&lt;/div&gt;</div>")),
        ("<div><p></div>", format!("{OPEN}&lt;div&gt;&lt;p&gt;&lt;/div&gt;</div>")),
        ("<div>\u{1}</div>", format!("{OPEN}&lt;div&gt;\u{fffd}&lt;/div&gt;</div>")),
        ("<div/><div/>", format!("{OPEN}&lt;div/&gt;&lt;div/&gt;</div>")),
        ("<p/>", format!("{OPEN}&lt;p/&gt;</div>")),
        ("text", format!("{OPEN}text</div>")),
        ("<!DOCTYPE div><div/>", format!("{OPEN}&lt;!DOCTYPE div&gt;&lt;div/&gt;</div>")),
        (
            "<div xmlns=\"urn:x\"/>",
            format!("{OPEN}&lt;div xmlns=&quot;urn:x&quot;/&gt;</div>"),
        ),
    ] {
        assert_eq!(div(json), xml, "{json}");
    }
    let deep = format!("{}{}", "<div>".repeat(300), "</div>".repeat(300));
    assert!(div(&deep).starts_with(&format!("{OPEN}&lt;div&gt;")));
    let xml = xml_of(r#"{"resourceType":"Patient","name":[{"text":"a\u0001\uffffb"}]}"#);
    assert!(xml.contains("value=\"a\u{fffd}\u{fffd}b\""), "{xml}");
    json_of(&xml);
    // What has no place in XML is left out.
    let xml = xml_of(
        r#"{"resourceType":"Patient","_id":{"extension":[{"url":"u","valueCode":"c"}]},"name":[{"_id":{"id":"x"},"given":[null],"_given":[{"id":"y"}]}],"text":{"_div":{"id":"z"}}}"#,
    );
    let kept = r#"<id><extension url="u"><valueCode value="c"/></extension></id><text/><name><given id="y"/></name>"#;
    assert_eq!(xml, format!("{HEAD}{}", patient(kept)));
}

#[test]
fn what_r4_does_not_know_has_no_xml() {
    for json in [
        "1",
        "[]",
        "{}",
        r#"{"resourceType":"Nothing"}"#,
        r#"{"resourceType":"Patient","nosuch":1}"#,
        r#"{"resourceType":"Patient","name":[1]}"#,
        r#"{"resourceType":"Patient","name":[null]}"#,
        r#"{"resourceType":"Patient","active":{}}"#,
        r#"{"resourceType":"Patient","contained":[1]}"#,
        r#"{"resourceType":"Patient","text":{"div":1}}"#,
    ] {
        let document = Document::parse_str(json).expect(json);
        assert_eq!(to_xml(document.root(), false).expect_err(json).status(), 500, "{json}");
    }
}

#[test]
fn pretty_xml_says_the_same() {
    let json = r#"{"resourceType":"Patient","text":{"status":"empty","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p> a </p>b</div>"},"contained":[{"resourceType":"Basic","id":"b"}],"name":[{"family":"R"}]}"#;
    let document = Document::parse_str(json).expect("JSON");
    let xml = to_xml(document.root(), true).expect("XML");
    let wanted = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<Patient xmlns=\"http://hl7.org/fhir\">
  <text>
    <status value=\"empty\"/>
    <div xmlns=\"http://www.w3.org/1999/xhtml\"><p> a </p>b</div>
  </text>
  <contained>
    <Basic>
      <id value=\"b\"/>
    </Basic>
  </contained>
  <name>
    <family value=\"R\"/>
  </name>
</Patient>
";
    assert_eq!(xml, wanted);
    assert_eq!(json_of(&xml), json_of(&xml_of(json)));
}

#[test]
fn the_time_of_hostile_xml_grows_with_its_length_only() {
    let attributes = (0..300_000).map(|i| format!(" a{i}=\"\"")).collect::<String>();
    let bound: String = (0..31).map(|i| format!(" xmlns:a{i}=\"http://hl7.org/fhir\"")).collect();
    let twins = "<given><extension url=\"u\"><valueString value=\"x\"/></extension></given>".repeat(20_000);
    let mut nested = String::from("<birthDate value=\"1980\"/>");
    for _ in 0..20 {
        nested = format!("<extension url=\"u\"><valueString value=\"x\">{nested}</valueString></extension>");
    }
    for (name, xml) in [
        ("300,000 attributes", patient(&format!("<id{attributes}/>"))),
        ("100,000 nested elements", patient(&"<extension url=\"u\">".repeat(100_000))),
        ("unknown elements", patient(&"<x/>".repeat(200_000))),
        (
            "references",
            patient(&format!("<name><text value=\"{}\"/></name>", "&amp;".repeat(300_000))),
        ),
        ("comments", patient(&"<!---->".repeat(200_000))),
        (
            "prefixes",
            format!(
                "<Patient xmlns=\"http://hl7.org/fhir\"{bound}>{}</Patient>",
                "<a0:x/>".repeat(100_000)
            ),
        ),
        ("an end that does not come", patient(&"<id value=\"".repeat(300_000))),
        ("a comment that does not end", patient(&"<!--".repeat(300_000))),
        ("a section that does not end", patient(&"<![CDATA[".repeat(300_000))),
        ("an instruction that does not end", patient(&"<?a ".repeat(300_000))),
        ("ampersands", patient(&"&".repeat(300_000))),
        ("twins", patient(&format!("<name>{twins}</name>"))),
        ("extensions of values", patient(&nested)),
    ] {
        let begin = Instant::now();
        let _ = to_json(xml.as_bytes());
        assert!(begin.elapsed() < Duration::from_secs(10), "{name}: {:?}", begin.elapsed());
    }
}
