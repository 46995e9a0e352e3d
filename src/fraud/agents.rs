// Hot path of offers with fraud rules: pure, no allocation.
//! Programs, by their user agents: crawlers, libraries, tools, browsers without a screen. Whoever
//! wants to pass for a browser does; this finds those who do not care.

use crate::limits::USER_AGENT_JUDGED_BYTES_MAX;

/// What only programs have in their user agents, in lower case.
const PROGRAMS: &[&str] = &[
    "crawl",
    "spider",
    "slurp",
    "scrapy",
    "archiver",
    "facebookexternalhit",
    "headless",
    "phantomjs",
    "puppeteer",
    "playwright",
    "selenium",
    "webdriver",
    "curl/",
    "wget/",
    "python",
    "aiohttp",
    "httpx",
    "urllib",
    "go-http-client",
    "java/",
    "apache-httpclient",
    "okhttp",
    "libwww-perl",
    "lwp::",
    "guzzle",
    "php/",
    "axios",
    "node-fetch",
    "undici",
    "node.js",
    "reqwest",
    "httpclient",
    "http_request",
    "postman",
    "insomnia",
    "httpie",
    "powershell",
    "winhttp",
    "libcurl",
    "masscan",
    "zgrab",
    "nmap",
];

/// Whether a user agent is a program's. Browsers always send one.
#[must_use]
pub fn is_program(user_agent: &str) -> bool {
    let mut lower = [0; USER_AGENT_JUDGED_BYTES_MAX];
    let length = user_agent.len().min(lower.len());
    let lower = &mut lower[..length];
    lower.copy_from_slice(&user_agent.as_bytes()[..length]);
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    let has = |word: &&str| memchr::memmem::find(lower, word.as_bytes()).is_some();
    lower.is_empty() || names_a_bot(lower) || PROGRAMS.iter().any(has)
}

/// Whether a word ends in `bot`. Cubot makes phones.
fn names_a_bot(lower: &[u8]) -> bool {
    memchr::memmem::find_iter(lower, b"bot").any(|at| {
        let is_letter = |byte: &u8| byte.is_ascii_lowercase();
        !lower.get(at + 3).is_some_and(is_letter) && !lower[..at].ends_with(b"cu")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(user_agent: &str, expected: bool) {
        assert_eq!(is_program(user_agent), expected, "{user_agent:?}");
    }

    #[test]
    fn programs_are_told_from_browsers() {
        for program in [
            "",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (compatible; bingbot/2.0)",
            "AdsBot-Google (+http://www.google.com/adsbot.html)",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/140.0 Safari/537.36",
            "curl/8.5.0",
            "Wget/1.21",
            "python-requests/2.32",
            "Python/3.12 aiohttp/3.9",
            "Go-http-client/2.0",
            "Java/17.0.2",
            "okhttp/4.12.0",
            "axios/1.7",
            "PostmanRuntime/7.39",
            "a robot",
        ] {
            check(program, true);
        }
        for browser in [
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Mozilla/5.0 (Linux; Android 13; CUBOT X50) AppleWebKit/537.36 Chrome/139.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 14; SM-S918B; wv) AppleWebKit/537.36 Version/4.0 Chrome/139.0 Mobile Safari/537.36 [FB_IAB/FB4A]",
            "Opera/9.80 (Windows NT 6.1) Presto/2.12.388 Version/12.18",
            "Bottega/1.0",
        ] {
            check(browser, false);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, pad in 0..1000_usize) {
            let _ = is_program(&text);
            let _ = is_program(&format!("{}{text}", "x".repeat(pad)));
        }
    }
}
