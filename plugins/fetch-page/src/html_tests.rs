//! What pages become.

use url::Url;

use crate::html::{Format, Page, read};

fn page(html: &str, format: Format) -> Page {
    read(html, &Url::parse("https://example.com/docs/page.html").unwrap(), format)
}

fn text(html: &str) -> String {
    page(html, Format::Text).text
}

fn markdown(html: &str) -> String {
    page(html, Format::Markdown).text
}

#[test]
fn a_page_becomes_markdown() {
    let html = r#"<!doctype html><html><head><title> The
        page </title><style>p { color: red }</style><script>if (a < b) alert("</p>")</script></head>
      <body><nav><a href="/">Home</a></nav>
      <h1>Fish &amp; chips</h1>
      <p>A <strong>very</strong> good <a href="../recipe?a=1&amp;b=2">recipe</a>,
         with <em>salt</em>.<br>Second line.</p>
      <ul><li>one</li><li>two <ul><li>inner</li></ul></li><li><p>three</p></li></ul>
      <ol start="3"><li>c<li>d</ol>
      <blockquote><p>Quoted</p><p>twice</p></blockquote>
      <pre><code>let a = 1;
  let b = 2;</code></pre>
      <table><tr><th>k</th><th>v</th></tr><tr><td>a</td><td>1</td></tr></table>
      <p>End <img src="x.png" alt="a picture"> <img src="y.png"></p>"#;
    let page = page(html, Format::Markdown);
    assert_eq!(page.title.as_deref(), Some("The page"));
    let expected = "# Fish & chips

A **very** good [recipe](https://example.com/recipe?a=1&b=2), with *salt*.
Second line.

- one
- two
  - inner
- three

3. c
4. d

> Quoted
>
> twice

```
let a = 1;
  let b = 2;
```

k | v
a | 1

End ![a picture](https://example.com/docs/x.png)";
    assert_eq!(page.text, expected);
}

#[test]
fn text_has_words_only() {
    let html = "<h2>Title</h2><p>A <b>bold</b> <a href='/x'>link</a></p><ul><li>item</ul><pre>a\n  b</pre>";
    assert_eq!(text(html), "Title\n\nA bold link\n\n- item\n\na\n  b");
}

#[test]
fn marks_without_words_vanish_and_blocks_close_them() {
    assert_eq!(markdown("<p><b></b>a<a href='/x'></a> <i> </i>b"), "a b");
    assert_eq!(markdown("<p>a<b> bold </b>b"), "a **bold** b");
    assert_eq!(markdown("<b>open<p>next</p>"), "**open**\n\nnext");
    assert_eq!(markdown("<b>a <b>b</b></b> c"), "**a b** c");
    assert_eq!(
        markdown("<a href='/x'><h3>Card</h3><p>words</p></a>"),
        "[Card words](https://example.com/x)".replace("[", "### [")
    );
}

#[test]
fn only_links_that_lead_somewhere_are_links() {
    assert_eq!(
        markdown("<a href='#top'>up</a> <a href='javascript:alert(1)'>js</a> <a>none</a>"),
        "up js none"
    );
    assert_eq!(markdown("<a href='mailto:a@example.com'>mail</a>"), "[mail](mailto:a@example.com)");
    assert_eq!(
        markdown("<base href='https://other.example/b/'><a href='c'>x</a>"),
        "[x](https://other.example/b/c)"
    );
    assert_eq!(
        markdown("<a href='/a'>one<a href='/b'>two</a>"),
        "[one](https://example.com/a)[two](https://example.com/b)"
    );
}

#[test]
fn the_main_part_is_enough() {
    let html = "<header>Site</header><main><p>The article.</p></main><footer>About</footer>";
    assert_eq!(text(html), "The article.");
    let long = "words ".repeat(100);
    let html = format!("<div>{long}</div><main></main>");
    assert_eq!(text(&html), long.trim());
    assert_eq!(text("<p>before<main>never closed"), "never closed");
}

#[test]
fn broken_pages_do_no_harm() {
    assert_eq!(text(""), "");
    assert_eq!(text("plain words"), "plain words");
    assert_eq!(text("</p></ul></b></pre></blockquote>x"), "x");
    assert_eq!(text("<p>a<script>never closed"), "a");
    assert_eq!(text("<div hidden>x<div>y</div></div>z"), "z");
    assert_eq!(text("<svg><title>t</title><text>x</text></svg>y"), "y");
    assert_eq!(text("a&nbsp;b&#x41;&unknown;"), "a bA&unknown;");
    assert_eq!(markdown("<pre>never closed"), "```\nnever closed\n```");
    assert_eq!(text("<p>größe<p>日本"), "größe\n\n日本");
    let deep = "<div><blockquote><b><ul><li>".repeat(5_000) + "x";
    assert!(markdown(&deep).len() < 2_000);
}

#[test]
fn many_links_with_a_long_base_are_bounded() {
    let base = format!("<base href='https://example.com/{}/'>", "b".repeat(60_000));
    let html = base + &"<a href=x>y</a> ".repeat(1_000);
    assert!(markdown(&html).len() < (8 << 20) + 200_000);
}
