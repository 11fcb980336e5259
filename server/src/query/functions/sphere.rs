//! Geometry on the Earth. Owns the geodesic between two points on WGS-84 and, on a sphere, arcs, their crossings and
//! regions; knows nothing of GeoJSON.
//!
//! Lengths are geodesic, by Vincenty's inverse formula. What lies where is decided on a sphere, with great circles as
//! edges: against geodesics on the ellipsoid an edge of a thousand kilometres is off by some hundred metres at most, in
//! the middle.

use std::f64::consts::{PI, TAU};

const EQUATORIAL_RADIUS: f64 = 6_378_137.0;
const FLATTENING: f64 = 1.0 / 298.257_223_563;
const MEAN_RADIUS: f64 = 6_371_008.8;

/// How near, in radians, counts as on a line: six millimetres.
const TOLERANCE: f64 = 1e-9;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

/// A point of the unit sphere.
pub(super) type Vector = [f64; 3];

fn dot(left: Vector, right: Vector) -> f64 {
    left[0] * right[0] + left[1] * right[1] + left[2] * right[2]
}

fn cross(left: Vector, right: Vector) -> Vector {
    [
        left[1] * right[2] - left[2] * right[1],
        left[2] * right[0] - left[0] * right[2],
        left[0] * right[1] - left[1] * right[0],
    ]
}

fn length(vector: Vector) -> f64 {
    dot(vector, vector).sqrt()
}

fn scaled(vector: Vector, by: f64) -> Vector {
    vector.map(|component| component * by)
}

/// The direction of a vector, unless it has none.
fn direction(vector: Vector) -> Option<Vector> {
    let length = length(vector);
    (length > 1e-15).then(|| scaled(vector, 1.0 / length))
}

/// The angle between two points, exact for small ones too.
pub(super) fn angle(left: Vector, right: Vector) -> f64 {
    length(cross(left, right)).atan2(dot(left, right))
}

impl Place {
    pub(super) fn vector(self) -> Vector {
        let (sin_longitude, cos_longitude) = self.longitude.to_radians().sin_cos();
        let (sin_latitude, cos_latitude) = self.latitude.to_radians().sin_cos();
        [cos_latitude * cos_longitude, cos_latitude * sin_longitude, sin_latitude]
    }

    fn of(vector: Vector) -> Self {
        let latitude = vector[2].atan2(vector[0].hypot(vector[1])).to_degrees();
        Place { longitude: vector[1].atan2(vector[0]).to_degrees(), latitude }
    }
}

/// The length in metres of the shortest line between two points.
pub(super) fn distance(from: Vector, to: Vector) -> f64 {
    let (from, to) = (Place::of(from), Place::of(to));
    geodesic(from, to).unwrap_or_else(|| angle(from.vector(), to.vector()) * MEAN_RADIUS)
}

/// Vincenty's inverse formula; nothing for almost antipodal points, where it does not converge.
fn geodesic(from: Place, to: Place) -> Option<f64> {
    let polar_radius = EQUATORIAL_RADIUS * (1.0 - FLATTENING);
    let reduced = |place: Place| ((1.0 - FLATTENING) * place.latitude.to_radians().tan()).atan().sin_cos();
    let ((sin_from, cos_from), (sin_to, cos_to)) = (reduced(from), reduced(to));
    let difference = (to.longitude - from.longitude).to_radians();
    let mut lambda = difference;
    for _ in 0..100 {
        let (sin_lambda, cos_lambda) = lambda.sin_cos();
        let sin_sigma = (cos_to * sin_lambda).hypot(cos_from * sin_to - sin_from * cos_to * cos_lambda);
        if sin_sigma == 0.0 {
            return Some(0.0);
        }
        let cos_sigma = sin_from * sin_to + cos_from * cos_to * cos_lambda;
        let sigma = sin_sigma.atan2(cos_sigma);
        let sin_alpha = cos_from * cos_to * sin_lambda / sin_sigma;
        let cos_squared = 1.0 - sin_alpha * sin_alpha;
        // Along the equator there is no middle latitude.
        let middle = if cos_squared < 1e-12 { 0.0 } else { cos_sigma - 2.0 * sin_from * sin_to / cos_squared };
        let c = FLATTENING / 16.0 * cos_squared * (4.0 + FLATTENING * (4.0 - 3.0 * cos_squared));
        let bend = sigma + c * sin_sigma * (middle + c * cos_sigma * (2.0 * middle * middle - 1.0));
        let next = difference + (1.0 - c) * FLATTENING * sin_alpha * bend;
        if (next - lambda).abs() < 1e-12 {
            let u = cos_squared * (EQUATORIAL_RADIUS.powi(2) - polar_radius.powi(2)) / polar_radius.powi(2);
            let a = 1.0 + u / 16_384.0 * (4_096.0 + u * (u * (320.0 - 175.0 * u) - 768.0));
            let b = u / 1_024.0 * (256.0 + u * (u * (74.0 - 47.0 * u) - 128.0));
            let square = 2.0 * middle * middle - 1.0;
            let third = b / 6.0 * middle * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * middle * middle - 3.0);
            let correction = b * sin_sigma * (middle + b / 4.0 * (cos_sigma * square - third));
            return Some(polar_radius * a * (sigma - correction));
        }
        lambda = next;
    }
    None
}

/// A line between two points, by the shorter way.
pub(super) type Arc = (Vector, Vector);

/// The point of an arc that is nearest to a point.
pub(super) fn nearest(point: Vector, (start, end): Arc) -> Vector {
    let normal = cross(start, end);
    let projected = direction(normal).and_then(|normal| {
        let height = dot(point, normal);
        direction([point[0] - height * normal[0], point[1] - height * normal[1], point[2] - height * normal[2]])
    });
    match projected {
        Some(foot) if spans((start, end), normal, foot) => foot,
        _ if dot(point, start) >= dot(point, end) => start,
        _ => end,
    }
}

/// Whether a point on the great circle of an arc lies between its ends.
fn spans((start, end): Arc, normal: Vector, point: Vector) -> bool {
    dot(cross(start, point), normal) >= 0.0 && dot(cross(point, end), normal) >= 0.0
}

/// Whether a point lies on an arc.
pub(super) fn lies_on(point: Vector, arc: Arc) -> bool {
    angle(point, nearest(point, arc)) <= TOLERANCE
}

/// Whether two arcs have a point in common that is an end of neither.
pub(super) fn cross_properly(left: Arc, right: Arc) -> bool {
    let (left_normal, right_normal) = (cross(left.0, left.1), cross(right.0, right.1));
    let Some(meeting) = direction(cross(left_normal, right_normal)) else { return false };
    [meeting, scaled(meeting, -1.0)].into_iter().any(|meeting| {
        let between = spans(left, left_normal, meeting) && spans(right, right_normal, meeting);
        between && [left.0, left.1, right.0, right.1].into_iter().all(|end| angle(end, meeting) > TOLERANCE)
    })
}

/// Whether two arcs have any point in common.
pub(super) fn touch(left: Arc, right: Arc) -> bool {
    cross_properly(left, right)
        || lies_on(left.0, right)
        || lies_on(left.1, right)
        || lies_on(right.0, left)
        || lies_on(right.1, left)
}

/// The arcs of a line or closed ring.
pub(super) fn arcs(points: &[Vector]) -> impl Iterator<Item = Arc> + '_ {
    points.iter().zip(points.iter().skip(1)).map(|(start, end)| (*start, *end))
}

/// Whether a ring goes around the smaller of its two sides counter-clockwise.
pub(super) fn is_counter_clockwise(ring: &[Vector]) -> bool {
    let Some(first) = ring.first() else { return true };
    let excess = |(second, third): Arc| {
        let volume = dot(*first, cross(second, third));
        2.0 * volume.atan2(1.0 + dot(*first, second) + dot(second, third) + dot(third, *first))
    };
    let area: f64 = arcs(ring).map(excess).sum();
    // The sum is the area to the left, up to whole spheres.
    (area.rem_euclid(2.0 * TAU)) < TAU
}

/// Whether a point is on the smaller side of a closed ring, or on the ring itself if `closed`.
pub(super) fn on_smaller_side(point: Vector, ring: &[Vector], closed: bool) -> bool {
    if arcs(ring).any(|arc| lies_on(point, arc)) {
        return closed;
    }
    // How often the ring turns around the point, seen along the bearing to each vertex; turning around the antipode
    // counts the other way.
    let Some(east) = direction(cross([0.0, 0.0, 1.0], point)).or_else(|| direction(cross([1.0, 0.0, 0.0], point)))
    else {
        return false;
    };
    let north = cross(point, east);
    let bearing = |vertex: Vector| dot(vertex, north).atan2(dot(vertex, east));
    let turned: f64 = arcs(ring).map(|(start, end)| (bearing(end) - bearing(start) + PI).rem_euclid(TAU) - PI).sum();
    let turns = (turned / TAU).round();
    if is_counter_clockwise(ring) { turns == 1.0 } else { turns == -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(longitude: f64, latitude: f64) -> Vector {
        Place { longitude, latitude }.vector()
    }

    fn ring(corners: &[(f64, f64)]) -> Vec<Vector> {
        corners.iter().map(|(longitude, latitude)| at(*longitude, *latitude)).collect()
    }

    #[test]
    fn geodesics_agree_with_published_lengths() {
        // The two distances of the service's documentation, and Vincenty's own test line.
        let headquarters = at(-122.117_581_139_535_53, 47.669_010_870_061_31);
        for (to, metres) in [
            (at(-122.128_268_223_046_72, 47.639_802_393_357_18), 3_345.27),
            (at(-96.843_686_647_659_94, 46.812_977_943_146_63), 1_907_438.4),
        ] {
            let found = distance(headquarters, to);
            assert!((found - metres).abs() < 0.1, "{found} instead of {metres}");
        }
        assert_eq!(distance(headquarters, headquarters), 0.0);
        // A quarter of the equator and of a meridian.
        assert!((distance(at(0.0, 0.0), at(90.0, 0.0)) - 10_018_754.171).abs() < 0.01);
        assert!((distance(at(0.0, 0.0), at(0.0, 90.0)) - 10_001_965.729).abs() < 0.01);
        assert!((distance(at(0.0, 0.0), at(179.9, 0.1)) - 20_003_000.0).abs() < 30_000.0);
    }

    #[test]
    fn a_region_has_a_smaller_side() {
        let square = ring(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 0.0)]);
        let clockwise: Vec<Vector> = square.iter().rev().copied().collect();
        assert!(is_counter_clockwise(&square));
        assert!(!is_counter_clockwise(&clockwise));
        for ring in [&square, &clockwise] {
            assert!(on_smaller_side(at(5.0, 5.0), ring, true));
            assert!(!on_smaller_side(at(15.0, 5.0), ring, true));
            assert!(!on_smaller_side(at(-175.0, -5.0), ring, true), "the antipode of the inside");
            assert!(on_smaller_side(at(5.0, 0.0), ring, true), "on an edge");
            assert!(!on_smaller_side(at(5.0, 0.0), ring, false));
        }
        let pole = ring(&[(0.0, 80.0), (120.0, 80.0), (-120.0, 80.0), (0.0, 80.0)]);
        assert!(on_smaller_side(at(0.0, 90.0), &pole, true));
        let date_line = ring(&[(170.0, -5.0), (-170.0, -5.0), (-170.0, 5.0), (170.0, 5.0), (170.0, -5.0)]);
        assert!(on_smaller_side(at(180.0, 0.0), &date_line, true));
        assert!(!on_smaller_side(at(0.0, 0.0), &date_line, true));
    }

    #[test]
    fn arcs_cross_touch_or_neither() {
        let horizontal = (at(-1.0, 0.0), at(1.0, 0.0));
        assert!(cross_properly(horizontal, (at(0.0, -1.0), at(0.0, 1.0))));
        assert!(!cross_properly(horizontal, (at(0.0, 0.0), at(0.0, 1.0))));
        assert!(touch(horizontal, (at(0.0, 0.0), at(0.0, 1.0))));
        assert!(!touch(horizontal, (at(0.0, 0.5), at(0.0, 1.0))));
        assert!(touch(horizontal, (at(0.5, 0.0), at(2.0, 0.0))), "along the same circle");
    }
}
