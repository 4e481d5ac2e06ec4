//! Small charts as inline SVG: lines and bars, on linear, logarithmic or percentile axes.

use std::fmt::Write;

/// How values become places on an axis.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors.
    Log,
    /// Shares below 1, with each further nine as wide as the last.
    Nines,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(1e-9).log10(),
            Self::Nines => -(1.0 - value.min(0.999_95)).log10(),
        }
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Which of the page's colours it has.
    pub color: usize,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x_label: String,
    /// Places and texts along the bottom.
    pub x_ticks: Vec<(f64, String)>,
    /// How values become places from left to right.
    pub x_scale: Scale,
    /// How values become places from bottom to top; ticks are made for it.
    pub y_scale: Scale,
    /// How values read.
    pub y_text: fn(f64) -> String,
    /// The lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;

impl Chart {
    /// The picture.
    pub fn draw(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let (x0, x1) = range(all().map(|(x, _)| self.x_scale.place(x)));
        let (mut y0, mut y1) = range(all().map(|(_, y)| self.y_scale.place(y)));
        if self.y_scale == Scale::Log {
            (y0, y1) = (y0.floor(), y1.ceil().max(y0.floor() + 1.0));
        } else {
            (y0, y1) = (0.0, y1 * 1.05);
        }
        let x = |value: f64| LEFT + (self.x_scale.place(value) - x0) / (x1 - x0).max(1e-9) * (WIDTH - LEFT - RIGHT);
        let y = |place: f64| HEIGHT - BOTTOM - (place - y0) / (y1 - y0).max(1e-9) * (HEIGHT - TOP - BOTTOM);
        let mut svg = open(&self.title, HEIGHT);
        for place in self.y_places(y0, y1) {
            let value = if self.y_scale == Scale::Log { 10f64.powf(place) } else { place };
            grid(&mut svg, y(place), &(self.y_text)(value));
        }
        for (value, text) in &self.x_ticks {
            let (at, below) = (x(*value), HEIGHT - BOTTOM + 15.0);
            let _ = write!(svg, "<text x='{at:.1}' y='{below:.1}' class='m'>{text}</text>");
        }
        let (middle, below) = (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 6.0);
        let _ = write!(svg, "<text x='{middle}' y='{below}' class='m'>{}</text>", escape(&self.x_label));
        for series in &self.series {
            let points: Vec<String> =
                series.points.iter().map(|&(a, b)| format!("{:.1},{:.1}", x(a), y(self.y_scale.place(b)))).collect();
            let (name, points) = (escape(&series.name), points.join(" "));
            let class = format!("c{}", series.color);
            let _ = write!(svg, "<polyline class='{class}' points='{points}'><title>{name}</title></polyline>");
        }
        svg + "</svg>"
    }

    fn y_places(&self, low: f64, high: f64) -> Vec<f64> {
        if self.y_scale == Scale::Log {
            return (low as i32..=high as i32).map(f64::from).collect();
        }
        (0..=4).map(|step| high * f64::from(step) / 4.0).collect()
    }
}

/// A bar in two parts.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it shows.
    pub name: String,
    /// Which of the page's colours it has.
    pub color: usize,
    /// The first part, and the paler second one.
    pub parts: (f64, f64),
}

/// Bars from left to right, one below the other, each with its value.
pub fn bars(title: &str, all: &[Bar], text: fn(f64) -> String) -> String {
    let most = all.iter().map(|bar| bar.parts.0 + bar.parts.1).fold(1e-9, f64::max);
    let height = TOP + 22.0 * all.len() as f64 + 10.0;
    let mut svg = open(title, height);
    let (begin, room) = (136.0, WIDTH - 136.0 - 70.0);
    for (number, bar) in all.iter().enumerate() {
        let top = TOP + 22.0 * number as f64;
        let (first, second) = (bar.parts.0 / most * room, bar.parts.1 / most * room);
        let (line, next, end) = (top + 12.0, begin + first, begin + first + second + 6.0);
        let (name, value, color) = (escape(&bar.name), text(bar.parts.0 + bar.parts.1), bar.color);
        let _ = write!(svg, "<text x='{}' y='{line}' class='e'>{name}</text>", begin - 6.0);
        let _ = write!(svg, "<rect x='{begin}' y='{top}' width='{first:.1}' height='16' class='f{color}'/>");
        let _ = write!(svg, "<rect x='{next:.1}' y='{top}' width='{second:.1}' height='16' class='f{color} pale'/>");
        let _ = write!(svg, "<text x='{end:.1}' y='{line}'>{value}</text>");
    }
    svg + "</svg>"
}

/// Text that cannot be taken for markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role='img' aria-label='{title}'>\
         <text x='{LEFT}' y='14' class='t'>{title}</text>"
    )
}

fn grid(svg: &mut String, y: f64, text: &str) {
    let (right, label, line) = (WIDTH - RIGHT, LEFT - 6.0, y + 4.0);
    let _ = write!(svg, "<line x1='{LEFT}' y1='{y:.1}' x2='{right}' y2='{y:.1}' class='g'/>");
    let _ = write!(svg, "<text x='{label}' y='{line:.1}' class='e'>{text}</text>");
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a <b>".to_owned(), color: 0, points }];
        let (title, x_label) = ("t".to_owned(), "x".to_owned());
        let (x_scale, y_scale) = (Scale::Nines, Scale::Log);
        let y_text = |value: f64| format!("{value}");
        Chart { title, x_label, x_ticks: Vec::new(), x_scale, y_scale, y_text, series }.draw()
    }

    #[test]
    fn a_chart_keeps_its_lines_inside_and_its_names_harmless() {
        let svg = chart(vec![(0.5, 10.0), (0.99, 1000.0), (1.0, 100_000.0)]);
        assert!(svg.contains("a &lt;b&gt;") && svg.ends_with("</svg>"), "{svg}");
        let points = svg.split("points='").nth(1).unwrap().split('\'').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        assert!(!chart(Vec::new()).contains("NaN"));
        assert!(!bars("t", &[], |value| value.to_string()).contains("NaN"));
    }
}
