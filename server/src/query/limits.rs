//! What a query may cost, and that nothing a caller writes can panic, overflow the stack or hang: tests only.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::cases::run;
use super::{QueryError, parse, parse_predicate};

/// Runs on a thread with less stack than any thread of the server has, so that a recursion without bound shows here.
fn with_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(work).expect("a thread");
    thread.join().expect("the thread ends well")
}

fn refusal(text: &str) -> QueryError {
    parse(text, Vec::new()).expect_err(text)
}

#[test]
fn what_is_refused_says_what_and_where() {
    for (text, line, column, part) in [
        ("", 1, 1, "expected 'SELECT' but found the end"),
        ("SELECT", 1, 7, "expected an expression"),
        ("SELECT * FROM", 1, 14, "expected a name"),
        ("SELECT *\nFROM c\nWHERE c.x ==", 3, 12, "expected an expression but found '='"),
        ("SELECT * FROM c WHERE c.value = 1", 1, 25, "write it [\"value\"]"),
        ("SELECT * FROM c WHERE x.y = 1", 1, 23, "identifier 'x' could not be resolved"),
        ("SELECT * FROM c JOIN t IN d.tags", 1, 22, "identifier 'd' could not be resolved"),
        ("SELECT * FROM c JOIN c IN c.tags", 1, 22, "given to two sources"),
        ("SELECT * FROM c JOIN t IN c.tags", 1, 1, "'SELECT *' is only valid with a single input set"),
        ("SELECT *", 1, 1, "needs a FROM clause"),
        ("SELECT *, c.id FROM c", 1, 9, "expected the end of the query but found ','"),
        ("SELECT VALUE * FROM c", 1, 14, "expected an expression but found '*'"),
        ("SELECT VALUE FOO(1)", 1, 14, "'FOO' is not a recognized built-in function name"),
        ("SELECT VALUE ABS()", 1, 14, "the ABS function takes 1 argument(s), not 0"),
        ("SELECT VALUE CONTAINS('a')", 1, 14, "takes 2 to 3 argument(s)"),
        ("SELECT VALUE CONCAT('a')", 1, 14, "takes at least 2 argument(s)"),
        ("SELECT VALUE IIF(true, 1)", 1, 14, "the IIF function takes 3"),
        ("SELECT VALUE COUNT() FROM c", 1, 14, "the COUNT function takes 1"),
        ("SELECT VALUE @x", 1, 14, "the parameter '@x' is not supplied"),
        ("SELECT VALUE udf.tax(1)", 1, 14, "user-defined functions are not supported"),
        ("SELECT VALUE VectorDistance([1], [1])", 1, 14, "vector search is not part of this server"),
        ("SELECT * FROM c WHERE FullTextContains(c.t, 'x')", 1, 23, "full-text search is not part"),
        ("SELECT * FROM c ORDER BY RANK FullTextScore(c.t, 'x')", 1, 26, "ORDER BY RANK"),
        ("SELECT VALUE ALL(SELECT 1)", 1, 14, "ALL(subquery) is not supported"),
        ("SELECT * FROM c WHERE COUNT(1) = 1", 1, 23, "COUNT cannot be used in WHERE"),
        ("SELECT * FROM c ORDER BY MAX(c.x)", 1, 26, "MAX cannot be used in ORDER BY"),
        ("SELECT VALUE SUM(MAX(c.x)) FROM c", 1, 18, "cannot be used in another aggregate function"),
        ("SELECT c.x, COUNT(1) FROM c", 1, 8, "'c' is used in the select list but is neither in GROUP BY"),
        ("SELECT c.x FROM c GROUP BY c.y", 1, 8, "neither in GROUP BY nor"),
        ("SELECT ARRAY(SELECT VALUE c.x) FROM c GROUP BY c.y", 1, 27, "neither in GROUP BY nor"),
        ("SELECT * FROM c GROUP BY c.x", 1, 1, "neither in GROUP BY nor"),
        ("SELECT c.x FROM c GROUP BY c.x ORDER BY c.x", 1, 1, "ORDER BY is not supported in the presence of GROUP BY"),
        ("SELECT TOP 1 * FROM c OFFSET 1 LIMIT 1", 1, 30, "cannot be used together with TOP"),
        ("SELECT TOP -1 * FROM c", 1, 12, "expected a number or a parameter"),
        ("SELECT TOP 1.5 * FROM c", 1, 12, "a whole number that is not negative, not 1.5"),
        ("SELECT * FROM c OFFSET 1", 1, 25, "expected 'LIMIT'"),
        ("SELECT * FROM c WHERE c.x IN ()", 1, 31, "expected an expression"),
        ("SELECT * FROM c WHERE c.x IN (SELECT 1)", 1, 31, "ARRAY_CONTAINS(ARRAY(SELECT"),
        ("SELECT * FROM c WHERE c.x LIKE 'a' ESCAPE 'ab'", 1, 43, "a string of one character after ESCAPE"),
        ("SELECT VALUE {1: 2}", 1, 15, "expected a property name"),
        ("SELECT VALUE [1, ]", 1, 18, "expected an expression"),
        ("SELECT * FROM c; DROP", 1, 16, "unexpected character ';'"),
        ("DELETE FROM c", 1, 1, "expected 'SELECT' but found 'DELETE'"),
        ("SELECT * FROM c[1.5]", 1, 17, "non-negative whole number"),
    ] {
        let error = refusal(text);
        assert!(error.message.contains(part), "{text}\n  {error}");
        assert_eq!((error.line, error.column), (line, column), "{text}\n  {error}");
    }
}

#[test]
fn conditions_of_a_patch() {
    let document = json!({"stock": 3, "tags": ["a"]});
    for (text, expected) in [
        ("from c where c.stock > 0", true),
        ("FROM root r WHERE r.stock > 3", false),
        ("from c where c.nothing = 1", false),
        ("from c", true),
        ("from t in c.tags where t = 'a'", true),
        ("from c where EXISTS(SELECT VALUE t FROM t IN c.tags)", true),
    ] {
        let condition = parse_predicate(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(condition.matches(&document).expect("evaluates"), expected, "{text}");
    }
    for text in ["", "where c.x = 1", "select * from c", "from c where", "from c order by c.x", "from c where @x"] {
        assert!(parse_predicate(text).is_err(), "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = 200_000;
    let nested = |open: &str, middle: &str, close: &str| {
        format!("SELECT VALUE {}{middle}{}", open.repeat(deep / open.len()), close.repeat(deep / open.len()))
    };
    for text in [
        nested("(", "1", ")"),
        nested("[", "1", "]"),
        nested("{a:", "1", "}"),
        nested("- ", "1", ""),
        nested("NOT ", "true", ""),
        nested("true ? 1 : ", "1", ""),
        nested("true ? ", "1", " : 1"),
        nested("ABS(", "1", ")"),
        nested("(SELECT VALUE ", "1", ")"),
        nested("a[", "1", "]"),
        format!("SELECT * FROM {}", "(SELECT * FROM ".repeat(deep / 15)),
    ] {
        let error = with_small_stack(move || refusal(&text));
        assert_eq!(error.message, "the query nests deeper than 100 levels");
        assert_eq!(error.line, 1);
        assert!(error.column > 100, "{error}");
    }
}

#[test]
fn the_deepest_query_allowed_fits_a_small_stack() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{a:", "}"),
        ("NOT ", ""),
        ("1 + (", ")"),
        ("true ? 1 : ", ""),
        ("(SELECT VALUE ", ")"),
        ("ARRAY(SELECT VALUE ", ")"),
    ] {
        // One or two levels of the parser each, so the deepest that parses is searched for.
        let text = |levels: usize| format!("SELECT VALUE {}c.x{} FROM c", open.repeat(levels), close.repeat(levels));
        let levels =
            (1..=100).rev().find(|levels| parse(&text(*levels), Vec::new()).is_ok()).expect("one level parses");
        assert!(levels >= 30, "{open}: {levels}");
        let text = text(levels);
        with_small_stack(move || run(&[json!({"x": 1})], &text, &Value::Null)).expect("runs");
    }
}

#[test]
fn long_is_not_deep() {
    let terms = 20_000;
    with_small_stack(move || {
        let document = [json!({"x": 1})];
        for (separator, expected) in [
            (" OR ", json!([])),
            (" AND ", json!([])),
            (" + ", json!([terms])),
            (" ?? ", json!([1])),
            (" = ", json!([false])),
            (" || ", json!([])),
        ] {
            let text = format!("SELECT VALUE {} FROM c", vec!["c.x"; terms].join(separator));
            assert_eq!(json!(run(&document, &text, &Value::Null).expect("runs")), expected, "{separator}");
        }
        let path = format!("SELECT VALUE c{} FROM c", ".x".repeat(terms));
        assert_eq!(run(&document, &path, &Value::Null).expect("runs"), Vec::<Value>::new());
        let list = format!("SELECT VALUE c.x IN ({}) FROM c", vec!["2"; terms].join(","));
        assert_eq!(run(&document, &list, &Value::Null).expect("runs"), [json!(false)]);
        let columns = format!("SELECT {} FROM c", vec!["c.x"; terms].join(","));
        assert_eq!(run(&document, &columns, &Value::Null).expect("runs"), [json!({"x": 1})]);
        let counts = format!("SELECT VALUE {} FROM c", vec!["COUNT(1)"; terms].join("+"));
        assert_eq!(run(&document, &counts, &Value::Null).expect("runs"), [json!(terms)]);
    });
}

#[test]
fn runaway_work_is_stopped() {
    let numbers: Vec<u64> = (0..1_000).collect();
    let document = [json!({"a": numbers, "s": "x".repeat(1_000)})];
    let doubled = |text: &str| {
        (0..60)
            .fold(format!("SELECT VALUE {text}"), |inner, _| format!("SELECT VALUE CONCAT(x, x) FROM (\n{inner}) AS x"))
    };
    for text in [
        "SELECT VALUE COUNT(1) FROM c JOIN x IN c.a JOIN y IN c.a JOIN z IN c.a".to_owned(),
        "SELECT VALUE x FROM c JOIN x IN c.a JOIN y IN c.a JOIN z IN c.a WHERE x < 0".to_owned(),
        "SELECT VALUE ARRAY(SELECT VALUE 1 FROM x IN c.a JOIN y IN c.a JOIN z IN c.a) FROM c".to_owned(),
        format!("SELECT VALUE [{}] FROM c", vec!["c"; 100_000].join(",")),
        format!("SELECT VALUE c IN ({}) FROM c", vec!["{a: c.a}"; 50_000].join(",")),
        format!("SELECT VALUE {} FROM c", vec!["ARRAY_CONTAINS(c.a, c)"; 10_000].join("OR ")),
        doubled("'abcdefgh'"),
    ] {
        let error = run(&document, &text, &Value::Null).expect_err("too much work");
        assert!(error.message.contains("too much work") || error.message.contains("nests deeper"), "{error}");
    }
    let parameter = json!({"@p": vec![0; 50_000]});
    let text = format!("SELECT VALUE [{}] FROM c", vec!["@p"; 100_000].join(","));
    assert!(run(&document, &text, &parameter).expect_err("too much work").message.contains("too much work"));
}

#[test]
fn results_cannot_nest_without_bound() {
    let literal = |inner: &str| format!("{}{inner}{}", "[".repeat(90), "]".repeat(90));
    let joins: String = (1..=10)
        .map(|level| format!(" JOIN (SELECT VALUE {}) AS x{level}", literal(&format!("x{}", level - 1))))
        .collect();
    let error = refusal(&format!("SELECT VALUE x10 FROM c AS x0{joins}"));
    assert!(error.message.contains("levels deep; the limit is 256"), "{error}");
    let error = refusal(&format!("SELECT VALUE c.x FROM c{}", " JOIN x IN c.x".repeat(11)));
    assert!(error.message.contains("11 joins; the limit is 10"), "{error}");
    let keys = vec!["c.x"; 501].join(",");
    assert!(refusal(&format!("SELECT VALUE 1 FROM c GROUP BY {keys}")).message.contains("501 keys"));
}

#[test]
fn memory_is_bounded() {
    let document = |n: u64| json!({"id": n.to_string(), "text": "x".repeat(1_000)});
    for text in [
        "SELECT * FROM c ORDER BY c.text",
        "SELECT DISTINCT VALUE c.id FROM c",
        "SELECT c.id, COUNT(1) FROM c GROUP BY c.id",
        "SELECT * FROM c OFFSET 0 LIMIT 1000000",
    ] {
        let query = parse(text, Vec::new()).expect(text);
        let mut collector = query.collect_within(100_000);
        let failed = (0..100_000).find_map(|n| collector.push(&document(n)).err());
        let message = failed.expect("the limit is reached").message;
        assert!(message.contains("more than 100000 bytes of memory"), "{text}: {message}");
    }
    // The first few of a sorted run need no more than the few.
    let query = parse("SELECT TOP 3 VALUE c.id FROM c ORDER BY c.id DESC", Vec::new()).expect("parses");
    let mut collector = query.collect_within(1_000_000);
    for n in 0..50_000 {
        collector.push(&document(n)).expect("a bounded number of rows is held");
    }
    assert_eq!(collector.finish().expect("finishes"), ["9999", "9998", "9997"]);
}

/// Queries that between them use all of the language, for mutation.
pub(super) const SEEDS: [&str; 8] = [
    "SELECT DISTINCT TOP 5 c.a, [c.b[0], 'x\\n'] AS d FROM root c WHERE c.a >= -1.5e3 AND NOT IS_NULL(c[\"b\"]) ORDER \
     BY c.a DESC, c.b",
    "SELECT VALUE {k: c.k, \"n\": COUNT(1) + SUM(c.n)} FROM c GROUP BY c.k OFFSET 1 LIMIT @n",
    "SELECT t.x ?? 'none' FROM c JOIN t IN c.t JOIN (SELECT VALUE u FROM u IN t.u WHERE u > 1) AS v WHERE \
     EXISTS(SELECT 1)",
    "select value c.s like '%a[b-d]_' escape '!' or c.n not between 1 and 2 or c.n in (1, 2, @n) from c -- note",
    "SELECT VALUE IIF(c.x = 1, ARRAY(SELECT VALUE y FROM y IN c.y), undefined) FROM c.path[0]['q'] c /* note */",
    "SELECT ~c.a & 3 | 4 ^ 5 << 1 >>> 2 >> 1, c.a % 2 * 3 / 4, c.a || 'z' FROM c",
    "SELECT VALUE REGEXMATCH(c.s, '^a.*b$', 'i') ? SUBSTRING(c.s, 1, 2) : DATETIMEADD('dd', 1, c.d)",
    "SELECT VALUE ST_DISTANCE(c.p, {type: 'Point', coordinates: [1, 2]}) FROM c WHERE ST_WITHIN(c.p, @n)",
];

/// What a mutation puts in.
const INSERTS: [&str; 19] = [
    "", "(", ")", "'", "\"", "[", "]", "{", ",", ".", "@", "SELECT ", " FROM c ", "-", "9e9", "\u{0}", "é", " AND ",
    "1",
];

/// The words of the seeds.
fn words() -> Vec<&'static str> {
    SEEDS.iter().flat_map(|seed| seed.split(' ')).collect()
}

proptest! {
    #[test]
    fn arbitrary_text_is_parsed_or_refused(text in ".{0,80}") {
        let _ = parse(&text, Vec::new());
        let _ = parse_predicate(&text);
    }

    #[test]
    fn words_of_the_language_in_any_order_are_parsed_or_refused(
        words in prop::collection::vec(prop::sample::select(words()), 0..24),
    ) {
        let text = words.join(" ");
        if let Err(error) = parse(&text, vec![("@n".to_owned(), json!(2))]) {
            prop_assert!(error.line == 1 && error.column as usize <= text.chars().count() + 1, "{}: {}", text, error);
        }
    }

    #[test]
    fn mutated_queries_neither_panic_nor_hang(
        seed in prop::sample::select(SEEDS.to_vec()),
        cut in any::<prop::sample::Index>(),
        length in 0_usize..6,
        insert in prop::sample::select(INSERTS.to_vec()),
        document in json_value(),
    ) {
        let characters: Vec<char> = seed.chars().collect();
        let start = cut.index(characters.len());
        let end = (start + length).min(characters.len());
        let inserted: Vec<char> = insert.chars().collect();
        let text: String = [&characters[..start], &inserted, &characters[end..]].concat().iter().collect();
        let parameters = json!({"@n": 2});
        if let Ok(results) = run(&[document], &text, &parameters) {
            prop_assert!(serde_json::to_string(&results).is_ok());
        }
    }
}

/// Documents with the property names that the seeds use.
pub(super) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        prop::sample::select(vec![json!(0.5), json!(-0.0), json!(1e300), json!(i64::MIN), json!(u64::MAX)]),
        prop::sample::select(vec!["", "a", "ab", "é😀", "2020-01-01", "%"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = prop::sample::select(vec!["a", "b", "k", "n", "s", "t", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..5).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, member)| (name.to_owned(), member)).collect())
            }),
        ]
    })
}
