// Package plot draws the charts of a report: the same picture as SVG and PNG, to
// the byte, from the same data.
//
// Style (this file is the only place for it): 8 inches wide, PNG at 192 dpi,
// Liberation Sans; the finding as title, left; what is shown as subtitle; n,
// machine and commit as footer; a horizontal grid only; labels at the data
// instead of a legend; colours of Okabe and Ito ("Color Universal Design", 2008),
// and with each colour a dash and a glyph of its own, so that a chart survives
// greyscale. Points that the client bounds are hollow. What was measured under
// emulation carries a watermark.
//
// Drawn on gonum.org/v1/plot's canvases (vg, draw), whose fonts are embedded and
// whose output is deterministic. Axes and labels are our own: gonum's tick labels
// clip at the right edge, and its titles cannot be set left (seen in v0.17.0).
//
// Who may use it: report. It knows no guests and reads no files. Start reading at
// page.go, then curve.go or rows.go.
package plot

import (
	"image/color"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Page size and margins.
const (
	pageWidth  = 8 * vg.Inch
	pageHeight = 4.8 * vg.Inch
	margin     = 16 // points, all sides
	dpi        = 192
)

// The inks. The report's dark mode swaps them by their hex codes, so each is
// used for one purpose only.
var (
	ink       = rgb(0x1F2328)
	muted     = rgb(0x57606A)
	axisInk   = rgb(0x8C959F)
	gridInk   = rgb(0xE5E8EB)
	paper     = rgb(0xFFFFFF)
	watermark = rgb(0xECEEF1)
	shade     = rgb(0xF6F7F9) // the range that noise may take
	unsure    = rgb(0x8A9099) // ratios whose interval spans 1
)

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 255}
}

// Look is how a system is drawn wherever it appears.
type Look int

// The looks, by what a system is in the comparison.
const (
	LookOurs     Look = iota // blue, solid, circle
	LookBaseline             // vermillion, dashed, square
	LookRival                // orange, dotted, triangle
	LookVariant              // green, dash-dotted, diamond
	LookOther                // purple, short dashes, pyramid
)

type look struct {
	ink    color.NRGBA
	dashes []vg.Length
	glyph  glyph
}

var looks = []look{
	LookOurs:     {rgb(0x0072B2), nil, circle},
	LookBaseline: {rgb(0xD55E00), []vg.Length{6, 3}, square},
	LookRival:    {rgb(0xB37400), []vg.Length{1.5, 2.5}, triangle}, // Okabe-Ito's orange, darkened: text in it must be legible
	LookVariant:  {rgb(0x009E73), []vg.Length{7, 2.5, 1.5, 2.5}, diamond},
	LookOther:    {rgb(0xA65D8C), []vg.Length{3, 2}, pyramid},
}

func (l Look) get() look {
	if l < 0 || int(l) >= len(looks) {
		l = LookOther
	}
	return looks[l]
}

func (l Look) line(w vg.Length) draw.LineStyle {
	k := l.get()
	return draw.LineStyle{Color: k.ink, Width: w, Dashes: k.dashes}
}

// Text styles. Sizes in points.
var fonts = text.Plain{Fonts: font.NewCache(liberation.Collection())}

func face(size vg.Length, bold bool, c color.Color) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return text.Style{Color: c, Font: f, Handler: fonts, XAlign: draw.XLeft, YAlign: draw.YBottom}
}

var (
	titleText    = face(15, true, ink)
	subtitleText = face(10.5, false, muted)
	footerText   = face(8, false, muted)
	tickText     = face(9, false, muted)
	axisText     = face(9.5, false, muted)
	labelText    = face(10, true, ink)
	valueText    = face(9.5, false, ink)
	noteText     = face(9, false, muted)
	markText     = face(34, true, watermark)
)

// Lines.
var (
	gridLine  = draw.LineStyle{Color: gridInk, Width: 0.8}
	axisLine  = draw.LineStyle{Color: axisInk, Width: 0.7}
	guideLine = draw.LineStyle{Color: axisInk, Width: 1, Dashes: []vg.Length{4, 3}}
)

const (
	lineWidth = 2
	thinWidth = 1.2
	glyphSize = 3
)

func colored(s text.Style, c color.Color) text.Style { s.Color = c; return s }

func aligned(s text.Style, x text.XAlignment, y text.YAlignment) text.Style {
	s.XAlign, s.YAlign = x, y
	return s
}

// band is a colour at the transparency of confidence bands.
func band(c color.NRGBA) color.NRGBA { c.A = 40; return c }
