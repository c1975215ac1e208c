package dev

import (
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/http"
	"path"
)

// serveMedia serves the files that users send. They are made up: there is nothing of the
// developer's disk that could get out.
func serveMedia(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	switch path.Ext(name) {
	case ".png":
		w.Header().Set("Content-Type", "image/png")
		_ = png.Encode(w, picture(name)) // who asks may have gone
	case ".pdf", ".ogg", ".mp4":
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = fmt.Fprintln(w, "A file of a simulated user.")
	default:
		http.NotFound(w, r)
	}
}

// picture draws a landscape, another one for each name.
func picture(name string) image.Image {
	const width, height = 320, 200
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name)) // a hash never fails
	seed := sum.Sum32()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	tint := func(shift int) float64 { return 0.55 + 0.4*float64(seed>>shift&0xff)/0xff }
	red, green, blue := tint(0), tint(8), tint(16)
	for x := range width {
		at := float64(x) / width * 2 * math.Pi
		hills := 120 + 22*math.Sin(at*1.5+float64(seed%7)) + 12*math.Sin(at*3+1)
		meadow := 165 + 9*math.Sin(at+float64(seed%5))
		for y := range height {
			light := 0.75 + 0.25*float64(y)/height
			switch {
			case float64(y) > meadow:
				light = 0.42
			case float64(y) > hills:
				light = 0.58
			}
			shade := func(part float64) uint8 { return uint8(math.Min(255, 255*part*light*1.1)) }
			img.SetRGBA(x, y, color.RGBA{shade(red), shade(green), shade(blue), 0xff})
		}
	}
	return img
}
