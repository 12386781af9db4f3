//! The chart: what the library reaches for each that was reached by hand, a bar for each case, with the spread of the rounds.

use std::error::Error;

use plotters::prelude::*;

use crate::database::ALL;
use crate::performance::cases::{CASES, Case};
use crate::performance::runs::{Runs, Spread};

const WIDTH: u32 = 760;
/// Of a bar with its title.
const LINE: u32 = 26;
const HEAD: u32 = 60;

/// Draws it.
pub(crate) fn draw(runs: &Runs) -> Result<String, Box<dyn Error>> {
    let bars: Vec<(String, Spread)> = CASES.iter().filter_map(|case| Some((title(case), rate(case, runs)?))).collect();
    let mut svg = String::new();
    {
        let height = HEAD + LINE * u32::try_from(bars.len())?;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let most = bars.iter().map(|(_, ratio)| ratio.most).fold(1.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(&area)
            .caption("tasks per second, for each one by hand (1.0)", ("sans-serif", 16))
            .margin(6)
            .x_label_area_size(24)
            .y_label_area_size(190)
            .build_cartesian_2d(0.0..most, (0..bars.len()).into_segmented())?;
        let name = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(at) => {
                bars.get(bars.len() - 1 - at).map(|(name, _)| name.clone()).unwrap_or_default()
            }
            _ => String::new(),
        };
        chart.configure_mesh().disable_y_mesh().y_labels(bars.len()).y_label_formatter(&name).draw()?;
        for (at, (_, ratio)) in bars.iter().rev().enumerate() {
            let (low, high) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
            let mut bar = Rectangle::new([(0.0, low), (ratio.median, high)], RGBColor(70, 120, 180).filled());
            bar.set_margin(5, 5, 0, 0);
            chart.draw_series([bar])?;
            let middle = SegmentValue::CenterOf(at);
            chart.draw_series([PathElement::new(vec![(ratio.least, middle.clone()), (ratio.most, middle)], BLACK)])?;
        }
        let (foot, top) = (SegmentValue::Exact(0), SegmentValue::Exact(bars.len()));
        chart.draw_series([PathElement::new(vec![(1.0, foot), (1.0, top)], RED)])?;
        area.present()?;
    }
    Ok(svg)
}

fn title(case: &Case) -> String {
    let database = ALL.iter().find(|database| database.feature == case.database).map_or("", |database| database.title);
    format!("{database}: {}", case.name)
}

/// Only where more is better.
fn rate(case: &Case, runs: &Runs) -> Option<Spread> {
    case.figure.ends_with("per_second").then(|| case.ratio(runs)).flatten()
}
