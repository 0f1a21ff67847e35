package plot

import (
	"image/color"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// glyph is the outline of a mark, with radius 1 around the origin.
type glyph []vg.Point

func polygon(n int, turn float64, r float64) glyph {
	g := make(glyph, n)
	for i := range g {
		a := turn + 2*math.Pi*float64(i)/float64(n)
		g[i] = vg.Point{X: vg.Length(r * math.Cos(a)), Y: vg.Length(r * math.Sin(a))}
	}
	return g
}

var (
	circle   glyph // drawn as an arc
	square   = polygon(4, math.Pi/4, 1.25)
	triangle = polygon(3, math.Pi/2, 1.35)
	pyramid  = polygon(3, -math.Pi/2, 1.35)
	diamond  = polygon(4, 0, 1.35)
)

// path places a glyph.
func (g glyph) path(at vg.Point, size vg.Length) vg.Path {
	var p vg.Path
	if g == nil {
		p.Move(vg.Point{X: at.X + size, Y: at.Y})
		p.Arc(at, size, 0, 2*math.Pi)
		p.Close()
		return p
	}
	for i, v := range g {
		q := vg.Point{X: at.X + v.X*size, Y: at.Y + v.Y*size}
		if i == 0 {
			p.Move(q)
		} else {
			p.Line(q)
		}
	}
	p.Close()
	return p
}

// mark draws a glyph, hollow or filled, with a rim of paper so that marks that
// overlap stay apart.
func mark(c draw.Canvas, g glyph, at vg.Point, size vg.Length, ink color.Color, hollow bool) {
	if hollow {
		c.SetColor(paper)
		c.Fill(g.path(at, size+0.8))
		c.SetLineStyle(draw.LineStyle{Color: ink, Width: 1.4})
		c.Stroke(g.path(at, size))
		return
	}
	c.SetColor(paper)
	c.Fill(g.path(at, size+0.9))
	c.SetColor(ink)
	c.Fill(g.path(at, size))
}
