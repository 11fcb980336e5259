//! System functions as a table: an expression and its value. Most pairs are examples of Microsoft's reference of the
//! query language, which are run against the service.

use serde_json::{Value, json};

use super::cases::run;

/// Checks the value of each expression; `None` is undefined.
fn check(cases: &[(&str, Option<Value>)]) {
    for (expression, expected) in cases {
        let text = format!("SELECT VALUE {expression}");
        let results = run(&[], &text, &Value::Null).unwrap_or_else(|error| panic!("{expression}\n  {error}"));
        assert_eq!(results.first(), expected.as_ref(), "{expression}");
    }
}

/// Shorthand for a defined value.
fn is(value: impl Into<Value>) -> Option<Value> {
    Some(value.into())
}

#[test]
fn type_checks_are_never_undefined() {
    check(&[
        ("IS_DEFINED(undefined)", is(false)),
        ("IS_DEFINED(null)", is(true)),
        ("is_null(null)", is(true)),
        ("IS_NULL(undefined)", is(false)),
        ("IS_ARRAY([])", is(true)),
        ("IS_OBJECT({})", is(true)),
        ("IS_OBJECT([])", is(false)),
        ("IS_BOOL(false)", is(true)),
        ("IS_NUMBER(1.5)", is(true)),
        ("IS_NUMBER('1')", is(false)),
        ("IS_INTEGER(2.0)", is(true)),
        ("IS_INTEGER(2.5)", is(false)),
        ("IS_FINITE_NUMBER(1234.567)", is(true)),
        ("IS_FINITE_NUMBER(8.9 / 0.0)", is(false)),
        ("IS_FINITE_NUMBER(SQRT(-1.0))", is(false)),
        ("IS_STRING('')", is(true)),
        ("IS_PRIMITIVE(null)", is(true)),
        ("IS_PRIMITIVE([1])", is(false)),
        ("IS_PRIMITIVE(undefined)", is(false)),
        ("IS_DATETIME('2023-03-06 15:29:00Z')", is(true)),
        ("IS_DATETIME('2023-03-06')", is(true)),
        ("IS_DATETIME('yesterday')", is(false)),
        ("IS_DATETIME(5)", is(false)),
    ]);
}

#[test]
fn strings() {
    check(&[
        ("CONCAT('abc', 'def', 'ghi')", is("abcdefghi")),
        ("CONCAT('abc', 1)", None),
        ("CONTAINS('abc', 'ab')", is(true)),
        ("CONTAINS('abc', 'A')", is(false)),
        ("CONTAINS('abc', 'A', true)", is(true)),
        ("CONTAINS('abc', 'a', 'yes')", None),
        ("CONTAINS('abc', undefined)", None),
        ("CONTAINS_ANY_CI('Adventure', 'x', 'VENT')", is(true)),
        ("CONTAINS_ALL_CS('Adventure', 'Adv', 'URE')", is(false)),
        ("STARTSWITH('abc', 'b')", is(false)),
        ("STARTSWITH('abc', 'AB', true)", is(true)),
        ("ENDSWITH('abc', 'bC', true)", is(true)),
        ("ENDSWITH('abc', 'bC')", is(false)),
        ("STRINGEQUALS('abc', 'ABC')", is(false)),
        ("STRINGEQUALS('abc', 'ABC', true)", is(true)),
        ("INDEX_OF('abc', 'c')", is(2)),
        ("INDEX_OF('abc', 'x')", is(-1)),
        ("INDEX_OF('abcabc', 'b', 2)", is(4)),
        ("INDEX_OF('a😀b', 'b')", is(3)),
        ("INDEX_OF('abc', '', 99)", is(3)),
        ("LASTINDEXOF('abcabc', 'b')", is(4)),
        ("LASTINDEXOF('abcabc', 'b', 3)", is(1)),
        ("LASTINDEXOF('abc', 'x')", is(-1)),
        ("LEFT('abc', 2)", is("ab")),
        ("left('abc', 0)", is("")),
        ("RIGHT('abc', 1)", is("c")),
        ("RIGHT('abc', 9)", is("abc")),
        ("RIGHT('abc', -1)", is("")),
        ("LENGTH('AdventureWorks')", is(14)),
        ("LENGTH('a😀')", is(3)),
        ("LENGTH(5)", None),
        ("LOWER('ABC')", is("abc")),
        ("UPPER('abc')", is("ABC")),
        ("LTRIM('  a ')", is("a ")),
        ("RTRIM('  a ')", is("  a")),
        ("LTRIM('AdventureWorks', 'Adventure')", is("Works")),
        ("RTRIM('AdventureWorks', 'Works')", is("Adventure")),
        ("TRIM('-_-AdventureWorks-_-', '-_')", is("AdventureWorks")),
        ("TRIM('-- AdventureWorks --', '-')", is(" AdventureWorks ")),
        ("REPLACE('This is a Test', 'Test', 'desk')", is("This is a desk")),
        ("REPLACE('abc', '', 'x')", None),
        ("REPLICATE('a', 3)", is("aaa")),
        ("REPLICATE('a', -1)", None),
        ("REPLICATE('ab', 5001)", None),
        ("REPLICATE('', 9e18)", is("")),
        ("REVERSE('Abc😀')", is("😀cbA")),
        ("SUBSTRING('abc', 1, 1)", is("b")),
        ("SUBSTRING('abc', 1, 0.5)", None),
        ("STRINGJOIN(['Adventure', 'LT'], 'Works')", is("AdventureWorksLT")),
        ("STRINGJOIN(['a', 1], '')", None),
        ("STRINGSPLIT('CARBON_STEEL', '_')", is(json!(["CARBON", "STEEL"]))),
        ("STRINGSPLIT('xenmoun mountain bike', 'moun')", is(json!(["xen", " ", "tain bike"]))),
        ("STRINGSPLIT('Helmet', '')", is(json!(["Helmet"]))),
        ("STRINGSPLIT('', '')", is(json!([""]))),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("TOSTRING(125)", is("125")),
        ("TOSTRING(0.1234)", is("0.1234")),
        ("TOSTRING(false)", is("false")),
        ("TOSTRING([1, 2, 3])", is("[1,2,3]")),
        ("TOSTRING({department: 'Bicycles'})", is("{\"department\":\"Bicycles\"}")),
        ("TOSTRING('x')", is("x")),
        ("TOSTRING(undefined)", None),
        ("STRINGTONUMBER('   60   ')", is(60)),
        ("STRINGTONUMBER('-1.79769e+308')", is(-1.79769e308)),
        ("STRINGTONUMBER('1e999')", None),
        ("STRINGTONUMBER('Hello')", None),
        ("STRINGTOBOOLEAN('  false  ')", is(false)),
        ("STRINGTOBOOLEAN(true)", None),
        ("STRINGTOBOOLEAN('100')", None),
        ("STRINGTONULL(' null ')", Some(Value::Null)),
        ("STRINGTOARRAY('[1, \"a\"]')", is(json!([1, "a"]))),
        ("STRINGTOARRAY('{}')", None),
        ("STRINGTOOBJECT('{\"a\":{\"b\":1}}')", is(json!({"a": {"b": 1}}))),
        ("STRINGTOOBJECT('{a:1}')", None),
    ]);
}

#[test]
fn regular_expressions() {
    check(&[
        ("REGEXMATCH('abcd', 'ABC')", is(false)),
        ("REGEXMATCH('abcd', 'ABC', 'i')", is(true)),
        ("REGEXMATCH('abcd', 'ab.', '')", is(true)),
        ("REGEXMATCH('abcd', 'aB c', 'ix')", is(true)),
        ("REGEXMATCH('salt3824908', 'salt{1}')", is(true)),
        ("REGEXMATCH('a\\nb', '^b')", is(false)),
        ("REGEXMATCH('a\\nb', '^b', 'm')", is(true)),
        ("REGEXMATCH('a\\nb', 'a.b', 's')", is(true)),
        ("REGEXMATCH('abc', CONCAT('a', 'b'))", is(true)),
        ("REGEXMATCH('abc', 'a', 'q')", None),
        ("REGEXMATCH(5, 'a')", None),
        ("REGEXMATCH('abc', 5)", None),
    ]);
    for (pattern, part) in [("(?=a)", "look-around"), ("(a", "unclosed group"), ("a{1000}{1000}", "too large")] {
        for text in [
            format!("SELECT VALUE REGEXMATCH('a', '{pattern}')"),
            format!("SELECT VALUE REGEXMATCH('a', CONCAT('{pattern}', ''))"),
        ] {
            let error = run(&[], &text, &Value::Null).expect_err(&text);
            assert!(error.message.contains(part) && error.message.starts_with("REGEXMATCH: "), "{text}: {error}");
        }
    }
}

#[test]
fn numbers() {
    check(&[
        ("ABS(-4)", is(4)),
        ("CEILING(-123.45)", is(-123)),
        ("FLOOR(-123.45)", is(-124)),
        ("ROUND(-6.5)", is(-7)),
        ("ROUND(0.5)", is(1)),
        ("TRUNC(-2.6)", is(-2)),
        ("SIGN(-2)", is(-1)),
        ("SIGN(0)", is(0)),
        ("SQRT(9)", is(3)),
        ("SQUARE(5)", is(25)),
        ("POWER(2.5, 3)", is(15.625)),
        ("POWER('2', 3)", None),
        ("LOG10(100)", is(2)),
        ("LOG(8, 2)", is(3)),
        ("LOG(0)", None),
        ("EXP(0)", is(1)),
        ("DEGREES(PI() / 2)", is(90)),
        ("RADIANS(180) = PI()", is(true)),
        ("ACOS(-1) = PI()", is(true)),
        ("ATN2(0, 1)", is(0)),
        ("SIN(0)", is(0)),
        ("COT(0)", None),
        ("NUMBERBIN(37.752)", is(37)),
        ("NUMBERBIN(37.752, 10)", is(30)),
        ("NUMBERBIN(-37.752, 10)", is(-40)),
        ("NUMBERBIN(1, 0)", None),
        ("INTADD(9223372036854775807, 1)", is(i64::MIN)),
        ("INTSUB(-9223372036854775808, 1)", is(i64::MAX)),
        ("INTMUL(3037000500, 3037000500)", is(-9_223_372_036_709_301_616_i64)),
        ("INTDIV(-9223372036854775808, -1)", is(i64::MIN)),
        ("INTDIV(1, 0)", None),
        ("INTMOD(7, 3)", is(1)),
        ("INTMOD(7, 0)", None),
        ("INTBITNOT(0)", is(-1)),
        ("INTBITLEFTSHIFT(1, 63)", is(i64::MIN)),
        ("INTBITLEFTSHIFT(1, 64)", None),
        ("INTBITRIGHTSHIFT(-8, 1)", is(-4)),
        ("INTBITRIGHTSHIFT(-8, -1)", None),
        ("INTBITAND(15, 25)", is(9)),
        ("INTBITXOR(56, 100)", is(92)),
        ("INTADD(1.5, 1)", None),
    ]);
}

#[test]
fn arrays_and_sets() {
    check(&[
        ("ARRAY_CONCAT(['apples'], ['straw'], [1])", is(json!(["apples", "straw", 1]))),
        ("ARRAY_CONCAT([1], 2)", None),
        ("ARRAY_CONTAINS(['coats', 'jackets'], 'coats')", is(true)),
        ("ARRAY_CONTAINS([1.0], 1)", is(true)),
        ("ARRAY_CONTAINS([{category: 'shirts', color: 'blue'}], {category: 'shirts'})", is(false)),
        ("ARRAY_CONTAINS([{category: 'shirts', color: 'blue'}], {category: 'shirts'}, true)", is(true)),
        ("ARRAY_CONTAINS([{category: 'shirts', color: 'blue'}], {category: 'shorts', color: 'blue'}, true)", is(false)),
        ("ARRAY_CONTAINS('abc', 'a')", None),
        ("ARRAY_CONTAINS([1], undefined)", is(false)),
        ("ARRAY_CONTAINS_ANY([1, 2, 3, 4], 2, 3, 4, 5)", is(true)),
        ("ARRAY_CONTAINS_ANY([1, 2, 3, 4], 1, undefined)", is(true)),
        ("ARRAY_CONTAINS_ANY([1, 2, 3, 4], 5, undefined)", None),
        ("ARRAY_CONTAINS_ANY([], 1)", is(false)),
        ("ARRAY_CONTAINS_ALL([1, true, '3', [1,2,3]], 1, true, '3', [1,2,3])", is(true)),
        ("ARRAY_CONTAINS_ALL([1, 2, 3, 4], 1, undefined)", None),
        ("ARRAY_CONTAINS_ALL([1, 2, 3, 4], 5, undefined)", is(false)),
        ("ARRAY_LENGTH([1, 2])", is(2)),
        ("ARRAY_LENGTH('x')", None),
        ("ARRAY_SLICE([70, 86, 92, 99, 85, 90, 82], -2)", is(json!([90, 82]))),
        ("ARRAY_SLICE([70, 86, 92, 99, 85, 90, 82], 3, 5)", is(json!([99, 85, 90, 82]))),
        ("ARRAY_SLICE([70, 86, 92, 99, 85, 90, 82], -2, 1)", is(json!([90]))),
        ("ARRAY_SLICE([1, 2], -9, 1)", is(json!([1]))),
        ("ARRAY_SLICE([1, 2], 2)", is(json!([]))),
        ("ARRAY_SLICE([1, 2], 1, -1)", is(json!([]))),
        ("ARRAY_SLICE([1, 2], 0.5)", None),
        ("ARRAY_SUM([1, 2.5])", is(3.5)),
        ("ARRAY_AVG([])", None),
        ("ARRAY_MAX([1, 'a', null])", is("a")),
        ("ARRAY_MIN([1, 'a', null])", Some(Value::Null)),
        ("ARRAY_MEDIAN([1, 2, 3, 4])", is(2.5)),
        ("ARRAY_MEDIAN([1.0, 2.0, 3.3, 4.7, 7.8])", is(3.3)),
        ("ARRAY_MEDIAN([])", None),
        ("ARRAY_MEDIAN(['abc'])", None),
        ("SETINTERSECT([1, 2, 2, 3], [3, 2.0, 5])", is(json!([2, 3]))),
        ("SETUNION([1, 2, 1], [3, 2])", is(json!([1, 2, 3]))),
        ("SETDIFFERENCE([1, 2, 1, 3], [3])", is(json!([1, 2]))),
        ("SETEQUAL([1, 2, 2], [2, 1])", is(true)),
        ("SETUNION([1], 1)", None),
        ("CHOOSE(1, 'adventure', 'works')", is("adventure")),
        ("CHOOSE(3, 'adventure', 'works')", None),
        ("CHOOSE(0, 'adventure')", None),
        ("OBJECTTOARRAY({a: '12345', b: 6})", is(json!([{"k": "a", "v": "12345"}, {"k": "b", "v": 6}]))),
        ("OBJECTTOARRAY({a: 1}, 'key', 'value')", is(json!([{"key": "a", "value": 1}]))),
        ("OBJECTTOARRAY([1])", None),
    ]);
}

#[test]
fn dates_and_times() {
    let zero = |text: &str| is(format!("{text}.0000000Z"));
    check(&[
        ("DateTimeAdd('yyyy', 1, '2020-07-03T00:00:00.0000000')", zero("2021-07-03T00:00:00")),
        ("DateTimeAdd('mm', -1, '2020-07-03T00:00:00.0000000')", zero("2020-06-03T00:00:00")),
        ("DateTimeAdd('hh', -1, '2020-07-03T00:00:00.0000000')", zero("2020-07-02T23:00:00")),
        ("DateTimeAdd('ss', 5 * -5, '2020-07-03T00:00:00.0000000')", zero("2020-07-02T23:59:35")),
        ("DateTimeAdd('ns', 200, '2020-07-03T00:00:00Z')", is("2020-07-03T00:00:00.0000002Z")),
        ("DateTimeAdd('dd', 1.5, '2020-07-03')", None),
        ("DateTimeAdd('eon', 1, '2020-07-03')", None),
        ("DateTimeAdd('dd', 9e18, '2020-07-03')", None),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'dd')", zero("2021-01-08T00:00:00")),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'hh', 5)", zero("2021-01-08T15:00:00")),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'dd', 7)", zero("2021-01-07T00:00:00")),
        (
            "DateTimeBin('2021-01-08T18:35:00.0000000', 'dd', 7, '1601-01-01T00:00:00.0000000')",
            zero("2021-01-04T00:00:00"),
        ),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'mm')", None),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'dd', 0)", None),
        ("DateTimeBin('2021-01-08T18:35:00.0000000', 'dd', 1, '1600-01-01')", None),
        ("DateTimeDiff('yyyy', '2019-02-04T16:00:00.0000000', '2018-03-05T05:00:00.0000000')", is(-1)),
        ("DateTimeDiff('mm', '2018-03-05T05:00:00.0000000', '2019-02-04T16:00:00.0000000')", is(11)),
        ("DateTimeDiff('hh', '2019-02-04T16:00:00.0000000', '2018-03-05T05:00:00.0000000')", is(-8075)),
        ("DateTimeDiff('ss', '2018-03-05T05:00:00.0000000', '2019-02-04T16:00:00.0000000')", is(29_070_000)),
        ("DateTimeDiff('hh', '2020-01-01T01:00:00.1234527Z', '2020-01-01T01:59:59.1234567Z')", is(0)),
        ("DateTimeDiff('diffDays', '2019-02-04', '2018-03-05')", None),
        ("DateTimeFromParts(2017, 4, 20, 13, 15, 20, 3456789)", is("2017-04-20T13:15:20.3456789Z")),
        ("DateTimeFromParts(2017, 4, 20, 13, 15)", zero("2017-04-20T13:15:00")),
        ("DateTimeFromParts(-2000, -1, -1)", None),
        ("DateTimePart('mcs', '2016-05-29T08:30:00.1301617')", is(130_161)),
        ("DateTimePart('ns', '2016-05-29T08:30:00.1301617')", is(130_161_700)),
        ("DateTimePart('mi', '2016-05-29T08:30:00.1301617')", is(30)),
        ("YEAR('2016-05-29')", is(2016)),
        ("MONTH('2016-05-29')", is(5)),
        ("DAY('2016-05-29')", is(29)),
        ("DateTimeToTicks('2015-05-19T12:00:00.0000000')", is(14_320_368_000_000_000_i64)),
        ("DateTimeToTimestamp('2015-05-19T12:00:00.0000000')", is(1_432_036_800_000_i64)),
        ("TicksToDateTime(14320368000000000)", zero("2015-05-19T12:00:00")),
        ("TimestampToDateTime(1432036800000)", zero("2015-05-19T12:00:00")),
        ("TimestampToDateTime(9e18)", None),
        ("DateTimeToTimestamp(GetCurrentDateTime()) = GetCurrentTimestamp()", is(true)),
        ("GetCurrentTicksStatic() = GetCurrentTicks()", is(true)),
        ("GetCurrentTimestamp() > 1700000000000", is(true)),
        ("NOW() = GetCurrentDateTimeStatic()", is(true)),
        ("DateTimeDiff('day', AGO('day', 2), NOW('day', 1))", is(3)),
    ]);
}

#[test]
fn places_and_regions() {
    let square = |ring: &str| format!("{{type: 'Polygon', coordinates: [[{ring}]]}}");
    let region = square("[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]");
    let clockwise = square("[0, 0], [0, 10], [10, 10], [10, 0], [0, 0]");
    let holed = "{type: 'Polygon', coordinates: [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], [[4, 4], [4, 6], [6, \
    6], [6, 4], [4, 4]]]}";
    let point = |x: f64, y: f64| format!("{{'type': 'Point', 'coordinates': [{x}, {y}]}}");
    let line = "{type: 'LineString', coordinates: [[1, 1], [20, 1]]}";
    let cases = [
        (format!("ST_WITHIN({}, {region})", point(5.0, 5.0)), is(true)),
        (format!("ST_WITHIN({}, {region})", point(15.0, 5.0)), is(false)),
        (format!("ST_WITHIN({}, {clockwise})", point(15.0, 5.0)), is(true)),
        (format!("ST_WITHIN({}, {clockwise})", point(5.0, 5.0)), is(false)),
        (format!("ST_WITHIN({}, {holed})", point(5.0, 5.0)), is(false)),
        (format!("ST_WITHIN({}, {holed})", point(2.0, 5.0)), is(true)),
        (format!("ST_WITHIN({line}, {region})"), is(false)),
        (format!("ST_WITHIN({region}, {region})"), is(true)),
        (format!("ST_WITHIN({region}, {holed})"), is(false)),
        (format!("ST_WITHIN({holed}, {region})"), is(true)),
        (format!("ST_WITHIN('here', {region})"), None),
        (format!("ST_INTERSECTS({line}, {region})"), is(true)),
        (format!("ST_INTERSECTS({region}, {})", square("[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]")), is(false)),
        (format!("ST_INTERSECTS({region}, {})", square("[-5, -5], [5, -5], [5, 5], [-5, 5], [-5, -5]")), is(true)),
        (format!("ST_INTERSECTS({region}, {})", square("[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]")), is(true)),
        (format!("ST_DISTANCE({}, {region})", point(5.0, 5.0)), is(0)),
        (format!("ROUND(ST_DISTANCE({}, {region}) / 1000)", point(12.0, 0.0)), is(223)),
        (format!("ROUND(ST_DISTANCE({}, {line}))", point(25.0, 1.0)), is(556_513)),
        ("ROUND(ST_DISTANCE({type: 'Point', coordinates: [-122.11758113953535, 47.66901087006131]}, {type: 'Point', \
        coordinates: [-122.12826822304672, 47.63980239335718]}))".to_owned(), is(3345)),
        ("ST_DISTANCE({type: 'Point', coordinates: [1, 91]}, {type: 'Point', coordinates: [1, 1]})".to_owned(), None),
        (format!("ST_ISVALID({region})"), is(true)),
        ("ST_ISVALID({type: 'Polygon', coordinates: [[[0, 0], [1, 1], [2, 0]]]})".to_owned(), is(false)),
        ("ST_ISVALID({type: 'Polygon', coordinates: [[[0, 0], [1, 1], [2, 0], [0, 1]]]})".to_owned(), is(false)),
        ("ST_ISVALID({type: 'LineString', coordinates: [[0, 0]]})".to_owned(), is(false)),
        ("ST_ISVALID({type: 'Circle', coordinates: [0, 0]})".to_owned(), is(false)),
        ("ST_ISVALID('Point')".to_owned(), is(false)),
        ("ST_ISVALID(undefined)".to_owned(), None),
        (
            "ST_ISVALIDDETAILED({type: 'Point', coordinates: [133.75682784306348, -184.38876194345323]})".to_owned(),
            is(json!({"valid": false, "reason": "Latitude values must be between -90 and 90 degrees."})),
        ),
        ("ST_ISVALIDDETAILED({type: 'Point', coordinates: [-84.4, 33.8]})".to_owned(), is(json!({"valid": true}))),
    ];
    let cases: Vec<_> = cases.iter().map(|(expression, expected)| (expression.as_str(), expected.clone())).collect();
    check(&cases);
    let error =
        run(&[], &format!("SELECT VALUE ST_WITHIN({}, {line})", point(1.0, 1.0)), &Value::Null).expect_err("no region");
    assert!(error.message.contains("must be a Polygon"), "{error}");
}
