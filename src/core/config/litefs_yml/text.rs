//! How LiteFS reads what stands in its `litefs.yml`: the environment in it, Go's durations, commands.

use std::time::Duration;

/// Replaces `$NAME`, `${NAME}`, and comparisons such as `${REGION == 'fra'}`, in the whole of a text, before
/// it is taken for YAML (LiteFS: `ExpandEnv`; Go: `os.Expand`). Adds to `unset` what the environment has not
/// got: it is empty then.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>, unset: &mut Vec<String>) -> String {
    let mut get = |name: &str| {
        env(name).unwrap_or_else(|| {
            if !unset.iter().any(|known| known == name) {
                unset.push(name.to_owned());
            }
            String::new()
        })
    };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        match shell_name(after) {
            // A dollar that nothing follows which could be a name.
            (None, 0) => {
                expanded.push('$');
                rest = after;
            }
            (name, taken) => {
                expanded.push_str(&name.map(|name| value(name, &mut get)).unwrap_or_default());
                rest = after.get(taken..).unwrap_or_default();
            }
        }
    }
    expanded + rest
}

/// The name at the beginning, and how many bytes it takes there (Go: `getShellName`).
fn shell_name(text: &str) -> (Option<&str>, usize) {
    let Some(first) = text.bytes().next() else { return (None, 0) };
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            // Wrong, and gone.
            None => (None, 1),
            Some(0) => (None, 2),
            Some(end) => (inner.get(..end), end + 2),
        };
    }
    if b"*#$@!?-".contains(&first) || first.is_ascii_digit() {
        return (text.get(..1), 1);
    }
    let end = text.bytes().position(|byte| !is_word(byte)).unwrap_or(text.len());
    if end == 0 { (None, 0) } else { (text.get(..end), end) }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Of a name, or of a comparison.
fn value(name: &str, get: &mut dyn FnMut(&str) -> String) -> String {
    let name = name.trim();
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_word);
    let sides = ["==", "!="].into_iter().filter_map(|operator| {
        let (left, right) = name.split_once(operator)?;
        let (left, right) = (left.trim_end(), right.trim_start());
        is_name(left).then_some((left, operator, right))
    });
    for (left, operator, right) in sides {
        let quoted = |quote: char| right.strip_prefix(quote)?.strip_suffix(quote);
        let right = match quoted('\'').or_else(|| quoted('"')) {
            Some(text) => text.to_owned(),
            None if is_name(right) => get(right),
            None => continue,
        };
        return ((get(left) == right) == (operator == "==")).to_string();
    }
    get(name)
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100us`; a number alone is nanoseconds. `None`: it is none, or
/// negative.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.trim();
    if let Ok(nanoseconds) = rest.parse::<u64>() {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A command's words, with quotes and backslashes as a shell has them. `None`: a quote does not end, or it
/// needs a shell.
pub fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (None, ';' | '&' | '|' | '<' | '>' | '`' | '(' | ')') => return None,
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> (String, Vec<String>) {
        let env = |name: &str| match name {
            "REGION" | "PRIMARY" => Some("fra".to_owned()),
            "1" => Some("one".to_owned()),
            _ => None,
        };
        let mut unset = Vec::new();
        (expand(text, &env, &mut unset), unset)
    }

    #[test]
    fn the_environment_is_put_in_as_litefs_does_it() {
        for (text, expanded) in [
            ("a $REGION-b ${REGION}c", "a fra-b frac"),
            ("${REGION == 'fra'} ${REGION != \"fra\"} ${ REGION==PRIMARY }", "true false true"),
            ("${REGION == 'ams'} ${REGION == ''}", "false false"),
            ("$1 5$ $ a$/b ${} ${", "one 5$ $ a$/b  "),
            ("\u{e4}$REGION\u{e4}", "\u{e4}fra\u{e4}"),
        ] {
            assert_eq!(with(text), (expanded.to_owned(), Vec::new()), "{text}");
        }
        let unset = vec!["NOT_THERE".to_owned()];
        assert_eq!(with("[$NOT_THERE${NOT_THERE}]"), ("[]".to_owned(), unset.clone()));
        assert_eq!(with("${NOT_THERE == ''}"), ("true".to_owned(), unset));
    }

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in
            [("10s", 10_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("2000000", 2), ("500us", 0)]
        {
            assert_eq!(duration(text).map(|d| d.as_millis()), Some(milliseconds), "{text}");
        }
        for text in ["-1s", "s", "10 s", "1d", "1.2.3s", "1e9h", "9999999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        let of = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(words("myapp -addr :8081"), of(&["myapp", "-addr", ":8081"]));
        assert_eq!(words("a 'b c' \"d \\\" e\" f\\ g ''"), of(&["a", "b c", "d \" e", "f g", ""]));
        for needs_a_shell in ["a 'b", "a && b", "a | b", "a > b", "a \\"] {
            assert_eq!(words(needs_a_shell), None, "{needs_a_shell}");
        }
        assert_eq!(words("  "), of(&[]));
    }
}
