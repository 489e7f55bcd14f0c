//! Positions within a distance: boxes of the index, and of these the ones that are as near on the sphere.
//! Spec: <https://hl7.org/fhir/R4/location.html#search>.

use crate::search::compile::Compiler;
use crate::search::compile::source::POSITIONS;
use crate::search::condition::EARTH_RADIUS as RADIUS;
use crate::search::condition::Near;
use crate::search::sql::Arg;

/// A box is a little wider than the distance, so that rounding takes nothing away at its edges.
const MARGIN: f64 = 1e-9;

impl Compiler {
    pub(super) fn near(&mut self, alias: &str, near: &Near) {
        self.open_rows(alias);
        for (i, (west, east)) in meridians(near).into_iter().enumerate() {
            let (south, north) = parallels(near);
            self.sql.push(if i > 0 { " union all " } else { "" });
            self.push_rows_of("p");
            self.push_side(POSITIONS);
            self.sql.push(" p where p.at <@ box(point(").bind(Arg::Float(west));
            self.sql.push(", ").bind(Arg::Float(south)).push("), point(").bind(Arg::Float(east));
            self.sql.push(", ").bind(Arg::Float(north)).push(")) and ");
            self.sql.push(&format!("2 * {RADIUS} * asin(least(1, sqrt(sin(radians(p.at[1] - "));
            self.sql
                .bind(Arg::Float(near.latitude))
                .push(") / 2) ^ 2 + cos(radians(")
                .bind(Arg::Float(near.latitude));
            self.sql
                .push(")) * cos(radians(p.at[1])) * sin(radians(p.at[0] - ")
                .bind(Arg::Float(near.longitude));
            self.sql.push(") / 2) ^ 2))) <= ").bind(Arg::Float(near.metres));
        }
        self.sql.push(")");
    }
}

/// South and north of a circle, in degrees.
fn parallels(near: &Near) -> (f64, f64) {
    let angle = (near.metres / RADIUS).to_degrees() + MARGIN;
    ((near.latitude - angle).max(-90.0), (near.latitude + angle).min(90.0))
}

/// West and east of a circle, in degrees: two boxes where it crosses the antimeridian, and all around where it holds a pole.
fn meridians(near: &Near) -> Vec<(f64, f64)> {
    let angle = near.metres / RADIUS;
    let (south, north) = parallels(near);
    if south <= -90.0 || north >= 90.0 || angle >= std::f64::consts::FRAC_PI_2 {
        return vec![(-180.0, 180.0)];
    }
    let wide = (angle.sin() / near.latitude.to_radians().cos()).min(1.0).asin().to_degrees() + MARGIN;
    let (west, east) = (near.longitude - wide, near.longitude + wide);
    if wide >= 180.0 {
        vec![(-180.0, 180.0)]
    } else if west < -180.0 {
        vec![(west + 360.0, 180.0), (-180.0, east)]
    } else if east > 180.0 {
        vec![(west, 180.0), (-180.0, east - 360.0)]
    } else {
        vec![(west, east)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_hold_the_circle_also_at_the_poles_and_at_the_antimeridian() {
        let boxes = |latitude, longitude, metres| {
            meridians(&Near {
                latitude,
                longitude,
                metres,
            })
        };
        assert_eq!(boxes(89.9, 0.0, 50_000.0), [(-180.0, 180.0)]);
        assert_eq!(boxes(0.0, 0.0, 11_000_000.0), [(-180.0, 180.0)]);
        let around = boxes(0.0, 179.9, 50_000.0);
        assert!(
            around.len() == 2 && around[0].1 == 180.0 && around[1].0 == -180.0 && around[1].1 < -179.6,
            "{around:?}"
        );
        let rome = boxes(41.9, 12.5, 10_000.0);
        assert!(rome.len() == 1 && rome[0].0 < 12.4 && rome[0].1 > 12.6, "{rome:?}");
    }
}
