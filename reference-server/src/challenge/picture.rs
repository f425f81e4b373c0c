//! Renders digits as a picture that people can read and simple programs cannot.
//!
//! Specialised programs can read such pictures too; the quiz only makes attempts costlier.

use super::keyed_random::KeyedRandom;

const WIDTH: usize = 240;
const HEIGHT: usize = 84;
const PAPER: u8 = 0xf2;
/// Columns and rows of a glyph.
const COLUMNS: f32 = 5.0;
const ROWS: f32 = 7.0;

/// Digits that are hard to confuse with each other or with letters. One bit per dot.
const GLYPHS: [(char, [u8; 7]); 8] = [
    ('2', [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111]),
    ('3', [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b00100, 0b01000, 0b01000]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100]),
];

/// The characters that can be drawn.
pub(super) const ALPHABET: &str = "23456789";

/// Draws `text`, in characters of [`ALPHABET`], as a PNG file. Distortion comes from `random`.
pub(super) fn draw(text: &str, random: &mut KeyedRandom) -> Result<Vec<u8>, png::EncodingError> {
    let mut picture = Picture(vec![PAPER; WIDTH * HEIGHT]);
    let wave = Wave {
        height: random.between(2.0, 4.0),
        length: random.between(40.0, 70.0),
        start: random.between(0.0, 6.0),
    };
    for _ in 0..4 {
        picture.line(random, &wave, 0x70..0xb0);
    }
    let count = text.chars().count().max(1);
    let pitch = float(WIDTH - 24) / float(count);
    for (index, character) in text.chars().enumerate() {
        let Some((_, rows)) = GLYPHS.iter().find(|(glyph, _)| *glyph == character) else { continue };
        picture.glyph(rows, 12.0 + pitch * (float(index) + 0.5), random, &wave);
    }
    for _ in 0..3 {
        picture.line(random, &wave, 0x50..0xa0);
    }
    for _ in 0..400 {
        let (x, y) = (random.below(WIDTH), random.below(HEIGHT));
        picture.0[y * WIDTH + x] = random.shade(0x40..0xff);
    }
    picture.encoded()
}

/// A sine wave that shifts each column up or down.
struct Wave {
    height: f32,
    length: f32,
    start: f32,
}

impl Wave {
    fn at(&self, x: f32) -> f32 {
        self.height * (x / self.length * std::f32::consts::TAU + self.start).sin()
    }
}

/// Shades of grey, row by row.
struct Picture(Vec<u8>);

impl Picture {
    fn glyph(&mut self, rows: &[u8; 7], centre: f32, random: &mut KeyedRandom, wave: &Wave) {
        let (sin, cos) = random.between(-0.35, 0.35).sin_cos();
        let (wide, high) = (random.between(4.8, 6.0), random.between(6.0, 7.4));
        let slant = random.between(-0.25, 0.25);
        let middle = float(HEIGHT) / 2.0 + random.between(-6.0, 6.0);
        let shade = random.shade(0x18..0x60);
        // Map each pixel back to the glyph, so that rotation leaves no gaps.
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let (dx, dy) = (float(x) - centre, float(y) - middle - wave.at(float(x)));
                if dx.abs() > 34.0 {
                    continue;
                }
                let (turned_x, turned_y) = (dx * cos + dy * sin, dy * cos - dx * sin);
                let row = turned_y / high + ROWS / 2.0;
                let column = (turned_x + slant * turned_y) / wide + COLUMNS / 2.0;
                if inked(rows, column - 0.5, row - 0.5) {
                    self.0[y * WIDTH + x] = shade;
                }
            }
        }
    }

    fn line(&mut self, random: &mut KeyedRandom, wave: &Wave, shades: std::ops::Range<u8>) {
        let (from, to) = (random.between(0.0, float(HEIGHT)), random.between(0.0, float(HEIGHT)));
        let (bend, shade) = (random.between(-20.0, 20.0), random.shade(shades));
        for x in 0..WIDTH {
            let share = float(x) / float(WIDTH);
            let y =
                from + (to - from) * share + bend * (share * std::f32::consts::TAU).sin() + wave.at(float(x));
            for y in (0..HEIGHT).filter(|row| (float(*row) - y).abs() < 1.2) {
                self.0[y * WIDTH + x] = shade;
            }
        }
    }

    fn encoded(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let mut encoder = png::Encoder::new(&mut file, side(WIDTH), side(HEIGHT));
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header()?.write_image_data(&self.0)?;
        Ok(file)
    }
}

/// Whether there is ink at a point of a glyph, by bilinear interpolation of the dots around it.
fn inked(rows: &[u8; 7], column: f32, row: f32) -> bool {
    let dot = |column: f32, row: f32| {
        let inside = (0.0..COLUMNS).contains(&column) && (0.0..ROWS).contains(&row);
        inside && rows[whole(row)] >> (4 - whole(column)) & 1 == 1
    };
    let (left, top) = (column.floor(), row.floor());
    let (right_share, bottom_share) = (column - left, row - top);
    let ink = |is_dot: bool, share: f32| if is_dot { share } else { 0.0 };
    let sum = ink(dot(left, top), (1.0 - right_share) * (1.0 - bottom_share))
        + ink(dot(left + 1.0, top), right_share * (1.0 - bottom_share))
        + ink(dot(left, top + 1.0), (1.0 - right_share) * bottom_share)
        + ink(dot(left + 1.0, top + 1.0), right_share * bottom_share);
    sum > 0.45
}

#[expect(clippy::cast_precision_loss, reason = "coordinates of a small picture")]
fn float(number: usize) -> f32 {
    number as f32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a column or row of a glyph")]
fn whole(number: f32) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(file: &[u8]) -> Vec<u8> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (240, 84));
        pixels
    }

    #[test]
    fn every_character_of_the_alphabet_has_a_glyph_of_its_own() {
        assert_eq!(GLYPHS.iter().map(|(character, _)| *character).collect::<String>(), ALPHABET);
        for (index, (_, rows)) in GLYPHS.iter().enumerate() {
            assert!(GLYPHS[..index].iter().all(|(_, other)| other != rows));
            assert!(rows.iter().all(|row| row >> 5 == 0));
        }
    }

    #[test]
    fn a_picture_is_small_and_never_the_same() {
        let first = draw("234567", &mut KeyedRandom::of(b"one")).unwrap();
        let second = draw("234567", &mut KeyedRandom::of(b"two")).unwrap();
        assert!(first.len() < 12_000, "{}", first.len());
        assert_ne!(pixels(&first), pixels(&second));
        assert_eq!(first, draw("234567", &mut KeyedRandom::of(b"one")).unwrap());
        let ink = |file: &[u8]| pixels(file).iter().filter(|shade| **shade < 0x60).count();
        let empty = draw("", &mut KeyedRandom::of(b"one")).unwrap();
        assert!(ink(&first) > ink(&empty) + 2_000, "{} {}", ink(&first), ink(&empty));
    }
}
