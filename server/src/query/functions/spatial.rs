//! Functions of GeoJSON geometries: Point, LineString, Polygon and MultiPolygon. Owns their syntax and validity, and
//! what within, intersects and distance mean for each pair of kinds.
//!
//! The interior of a polygon is to the left of its outer ring, so a clockwise one is everything outside (GeoJSON's
//! rule, and the service's); a hole is a hole whichever way it is written. A boundary belongs to its region. Something
//! that is not a valid geometry makes a function undefined.

use serde_json::{Value, json};

use super::sphere::{self, Arc, Place, Vector};
use super::{Function, Outcome, value};
use crate::query::evaluate::{Context, Evaluated};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("ST_DISTANCE", 2, 2, |arguments, context| {
        pair(arguments, context, |left, right| Ok(left.distance(right).and_then(crate::query::value::number)))
    }),
    Function::new("ST_INTERSECTS", 2, 2, |arguments, context| {
        pair(arguments, context, |left, right| Ok(Some(Value::Bool(left.intersects(right)))))
    }),
    Function::new("ST_ISVALID", 1, 1, |arguments, _| {
        Ok(value(arguments, 0).map(|value| Value::Bool(Geometry::read(value).is_ok())))
    }),
    Function::new("ST_ISVALIDDETAILED", 1, 1, |arguments, _| {
        Ok(value(arguments, 0).map(|value| match Geometry::read(value) {
            Ok(_) => json!({"valid": true}),
            Err(reason) => json!({"valid": false, "reason": reason}),
        }))
    })
    .taller(1),
    Function::new("ST_WITHIN", 2, 2, |arguments, context| {
        pair(arguments, context, |inner, region| match region {
            Geometry::Region(polygons) => Ok(Some(Value::Bool(inner.within(polygons)))),
            _ => Err("the second argument must be a Polygon or MultiPolygon".to_owned()),
        })
    }),
];

/// A valid geometry.
#[derive(Debug)]
enum Geometry {
    Point(Vector),
    Line(Vec<Vector>),
    Region(Vec<Polygon>),
}

/// Closed rings, the outer one first.
#[derive(Debug)]
struct Polygon {
    rings: Vec<Vec<Vector>>,
}

/// Runs a function of two geometries; undefined if either is not one.
fn pair(arguments: &[Evaluated<'_>], context: &Context, function: fn(&Geometry, &Geometry) -> Outcome) -> Outcome {
    let geometry = |index| value(arguments, index).and_then(|value| Geometry::read(value).ok());
    let Some((left, right)) = geometry(0).zip(geometry(1)) else { return Ok(None) };
    // Every part is looked at against every part, and a look costs some dozens of steps.
    context.charge(left.size().saturating_mul(right.size()).saturating_mul(30))?;
    function(&left, &right)
}

impl Geometry {
    /// Reads GeoJSON.
    ///
    /// # Errors
    /// Why it is not a valid geometry, for people.
    fn read(value: &Value) -> Result<Self, String> {
        let kind = value.get("type").and_then(Value::as_str).ok_or("A geometry must be an object with a type.")?;
        let coordinates = value.get("coordinates").ok_or("A geometry must have coordinates.")?;
        match kind {
            "Point" => Ok(Geometry::Point(position(coordinates)?)),
            "LineString" => {
                let line = positions(coordinates)?;
                if line.len() < 2 {
                    Err("A LineString must have at least two positions.".to_owned())
                } else {
                    Ok(Geometry::Line(line))
                }
            }
            "Polygon" => Ok(Geometry::Region(vec![Polygon::read(coordinates)?])),
            "MultiPolygon" => {
                let polygons =
                    coordinates.as_array().ok_or("The coordinates of a MultiPolygon must be an array of polygons.")?;
                Ok(Geometry::Region(polygons.iter().map(Polygon::read).collect::<Result<_, _>>()?))
            }
            other => Err(format!("The geometry type '{other}' is not supported.")),
        }
    }

    fn size(&self) -> usize {
        self.vertices().count()
    }

    fn vertices(&self) -> Box<dyn Iterator<Item = Vector> + '_> {
        match self {
            Geometry::Point(point) => Box::new(std::iter::once(*point)),
            Geometry::Line(line) => Box::new(line.iter().copied()),
            Geometry::Region(polygons) => {
                Box::new(polygons.iter().flat_map(|polygon| polygon.rings.iter().flatten().copied()))
            }
        }
    }

    fn arcs(&self) -> Box<dyn Iterator<Item = Arc> + '_> {
        match self {
            // A point is a line of no length to everything that asks for its edges.
            Geometry::Point(point) => Box::new(std::iter::once((*point, *point))),
            Geometry::Line(line) => Box::new(sphere::arcs(line)),
            Geometry::Region(polygons) => Box::new(polygons.iter().flat_map(Polygon::arcs)),
        }
    }

    fn covers(&self, point: Vector) -> bool {
        matches!(self, Geometry::Region(polygons) if polygons.iter().any(|polygon| polygon.contains(point, true)))
    }

    fn intersects(&self, other: &Geometry) -> bool {
        let edges_touch = self.arcs().any(|left| other.arcs().any(|right| sphere::touch(left, right)));
        edges_touch
            || self.vertices().any(|vertex| other.covers(vertex))
            || other.vertices().any(|vertex| self.covers(vertex))
    }

    /// Metres between the nearest points, or nothing if a geometry is empty.
    fn distance(&self, other: &Geometry) -> Option<f64> {
        if let (Geometry::Point(left), Geometry::Point(right)) = (self, other) {
            return Some(sphere::distance(*left, *right));
        }
        if self.intersects(other) {
            return Some(0.0);
        }
        // Where lines do not cross, one of the two nearest points is an end of a line.
        let feet = |from: &Geometry, to: &Geometry| -> Vec<(Vector, Vector)> {
            from.vertices()
                .flat_map(|vertex| to.arcs().map(move |arc| (vertex, sphere::nearest(vertex, arc))))
                .collect()
        };
        let nearest = feet(self, other)
            .into_iter()
            .chain(feet(other, self))
            .min_by(|left, right| sphere::angle(left.0, left.1).total_cmp(&sphere::angle(right.0, right.1)));
        nearest.map(|(from, to)| sphere::distance(from, to))
    }

    /// Whether each part lies in one of the polygons.
    fn within(&self, polygons: &[Polygon]) -> bool {
        let fits = |part: &Geometry| polygons.iter().any(|polygon| polygon.holds(part));
        match self {
            Geometry::Region(parts) => {
                !parts.is_empty()
                    && parts.iter().all(|part| fits(&Geometry::Region(vec![Polygon { rings: part.rings.clone() }])))
            }
            part => fits(part),
        }
    }
}

impl Polygon {
    fn read(coordinates: &Value) -> Result<Self, String> {
        let rings = coordinates.as_array().filter(|rings| !rings.is_empty());
        let rings = rings.ok_or("The coordinates of a Polygon must be an array of rings.")?;
        let rings: Vec<Vec<Vector>> = rings.iter().map(positions).collect::<Result<_, _>>()?;
        for (index, (ring, written)) in rings.iter().zip(coordinates.as_array().into_iter().flatten()).enumerate() {
            if ring.len() < 4 {
                return Err(format!("Ring {} of the polygon has fewer than four positions.", index + 1));
            }
            let ends = written.as_array().and_then(|positions| positions.first().zip(positions.last()));
            if ends.is_none_or(|(first, last)| !crate::query::value::equals(first, last)) {
                return Err(format!("Ring {} of the polygon does not end where it starts.", index + 1));
            }
        }
        Ok(Polygon { rings })
    }

    fn arcs(&self) -> impl Iterator<Item = Arc> + '_ {
        self.rings.iter().flat_map(|ring| sphere::arcs(ring))
    }

    /// Whether a point is inside, or on the boundary if `closed`.
    fn contains(&self, point: Vector, closed: bool) -> bool {
        let Some((outer, holes)) = self.rings.split_first() else { return false };
        let inside = if sphere::is_counter_clockwise(outer) {
            sphere::on_smaller_side(point, outer, closed)
        } else {
            !sphere::on_smaller_side(point, outer, !closed)
        };
        inside && !holes.iter().any(|hole| sphere::on_smaller_side(point, hole, !closed))
    }

    /// Whether a geometry lies wholly inside or on the boundary.
    fn holds(&self, part: &Geometry) -> bool {
        let inside = part.vertices().all(|vertex| self.contains(vertex, true));
        let crosses = || part.arcs().any(|left| self.arcs().any(|right| sphere::cross_properly(left, right)));
        // A hole of this polygon inside the part shows by its corners.
        let swallows = || match part {
            Geometry::Region(parts) => {
                parts.iter().any(|part| self.rings.iter().flatten().any(|corner| part.contains(*corner, false)))
            }
            _ => false,
        };
        inside && !crosses() && !swallows()
    }
}

fn position(value: &Value) -> Result<Vector, String> {
    let wrong = "A position must be an array of a longitude and a latitude.";
    let coordinates = value.as_array().ok_or(wrong)?;
    let number = |index: usize| coordinates.get(index).and_then(Value::as_f64);
    let (longitude, latitude) = number(0).zip(number(1)).ok_or(wrong)?;
    if !(-180.0..=180.0).contains(&longitude) {
        return Err("Longitude values must be between -180 and 180 degrees.".to_owned());
    }
    if !(-90.0..=90.0).contains(&latitude) {
        return Err("Latitude values must be between -90 and 90 degrees.".to_owned());
    }
    Ok(Place { longitude, latitude }.vector())
}

fn positions(value: &Value) -> Result<Vec<Vector>, String> {
    value.as_array().ok_or("A line must be an array of positions.")?.iter().map(position).collect()
}
