//! The page's pure functions, run where they run: reading JSON without losing anything, comparing, and merging.

use serde_json::json;

use super::browser::with_browser;
use crate::support::Host;

#[test]
fn json_is_read_and_written_without_losing_anything() {
    let host = Host::start();
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "Dashboard");
        let failures = browser.run_async(
            r#"const done = arguments[0];
            import('/_explorer/json.js').then(({ parse, compact, pretty, same }) => {
                const bad = [];
                for (const text of ['{"a":12345678901234567890,"b":1.0,"c":-0,"d":1e400}', '[]', '{}', '""', 'null', '[[],{},[{}]]', '{"a":1,"a":2}', '"\\u2028\\ud800 \\"\\\\"', '{"__proto__":1,"constructor":{"x":[true,false,null]}}']) {
                    const value = parse(text);
                    if (compact(value) !== text && JSON.stringify(JSON.parse(text)) !== compact(value)) bad.push(`${text} became ${compact(value)}`);
                    if (!same(parse(pretty(value)), value)) bad.push(`${text} is not the same when pretty`);
                }
                for (const text of ['', '{', '[1,]', '{"a"}', '{a:1}', '01', '+1', '.5', '1.', '"', '"\n"', '"\\x"', '"\\u12"', 'nul', '1 2', '[1}', '{"a":1,}', '\u00a0 1', "'a'", 'NaN', '['.repeat(1000)]) {
                    try { parse(text); bad.push(`${text.slice(0, 20)} was taken`); } catch (error) { if (!(error.line >= 1 && error.column >= 1)) bad.push(`${text.slice(0, 20)}: ${error}`); }
                }
                done(bad);
            }, (error) => done([String(error)]));"#,
        );
        assert_eq!(failures, json!([]));
    });
}

/// Random documents and random changes of them; what must hold of every comparison and every merge.
#[test]
fn comparisons_and_merges_keep_their_laws() {
    let host = Host::start();
    with_browser(host.address(), |browser| {
        browser.until_text("h1", "Dashboard");
        let failures = browser.run_async(
            r"const done = arguments[0];
            Promise.all(['json', 'diff', 'merge'].map((name) => import(`/_explorer/${name}.js`))).then(([{ parse, pretty, same, compact }, { rows, changes }, { compare, merged }]) => {
                const bad = [];
                let seed = 7;
                const random = (most) => (seed = (seed * 48271) % 2147483647) % most;
                const value = (depth) => { const kind = random(depth > 2 ? 3 : 5); return kind === 0 ? random(4) : kind === 1 ? 'abc'[random(3)] : kind === 2 ? null : kind === 3 ? Array.from({ length: random(4) }, () => value(depth + 1)) : Object.fromEntries(Array.from({ length: random(5) }, () => ['pqrst'[random(5)], value(depth + 1)])); };
                const object = () => Object.fromEntries(['id', ...'pqr'].map((name) => [name, value(0)]));
                const change = (from) => { const copy = structuredClone(from); for (let times = random(3); times >= 0; times -= 1) { const name = 'pqrst'[random(5)]; if (random(3) === 0) delete copy[name]; else if (random(2) && copy[name] && typeof copy[name] === 'object' && !Array.isArray(copy[name])) copy[name]['xyz'[random(3)]] = value(1); else copy[name] = value(1); } return copy; };
                const node = (plain) => parse(JSON.stringify(plain));
                for (let round = 0; round < 3000 && bad.length < 5; round += 1) {
                    const start = object();
                    const [base, mine, theirs] = [start, change(start), change(start)].map(node);
                    const say = (law) => bad.push(`${law}: ${[base, mine, theirs].map(compact).join('  ')}`);
                    const merge = (b, m, t) => { const places = compare(b, m, t); return { places, result: merged(b, m, t, places) }; };
                    if (!same(merge(base, mine, base).result, mine)) say('only mine changed');
                    if (!same(merge(base, base, theirs).result, theirs)) say('only theirs changed');
                    if (!same(merge(base, mine, mine).result, mine)) say('both changed alike');
                    const { places } = merge(base, mine, theirs);
                    const all = (side) => merged(base, mine, theirs, places.map((place) => ({ ...place, choice: side })));
                    if (!same(all('mine'), mine)) say('all mine is mine');
                    if (!same(all('theirs'), theirs)) say('all theirs is theirs');
                    const turned = merge(base, theirs, mine);
                    if (turned.places.filter((place) => place.isConflict).length !== places.filter((place) => place.isConflict).length) say('who is who makes no conflict');
                    if (places.every((place) => !place.isConflict) && !same(turned.result, merge(base, mine, theirs).result)) say('without a conflict the order does not matter');
                    if ((changes(base, mine).length === 0) !== same(base, mine)) say('a change is told');
                    const [before, after] = [pretty(base), pretty(theirs)];
                    const found = rows(before, after);
                    const side = (name) => found.filter((row) => row[name]).map((row) => row[name].text).join('\n');
                    if (side('left') !== before || side('right') !== after) say('a comparison holds both texts');
                    if (found.some((row) => row.kind === 'same' && row.left.text.replace(/,$/, '') !== row.right.text.replace(/,$/, ''))) say('what is called the same is');
                }
                const long = Array.from({ length: 30000 }, (_, at) => `line ${at}`).join('\n');
                const told = rows(long, long.replaceAll('9', 'x')).filter((row) => row.kind !== 'same');
                // From the first line with a 9 to the last.
                if (told.length !== 29991 || told.some((row) => row.kind !== 'changed')) bad.push('a long comparison is not given up');
                done(bad);
            }).catch((error) => done([String(error.stack)]));",
        );
        assert_eq!(failures, json!([]));
    });
}
