// Package human writes numbers and texts for people.
package human

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode"
)

// Count writes a number with separators: 12,345.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Size writes a number of bytes with a decimal unit; negative is unknown.
func Size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 999.5 && unit < 5 {
		f /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %cB", f, " kMGTP"[unit])
}

// Span writes a duration: 0.123 s, 12.3 s, 3m20s.
func Span(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return "?"
	case seconds < 100:
		return fmt.Sprintf("%.3g s", seconds)
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// Plural is the noun for that many.
func Plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Line shortens a text to one line of at most so many characters.
func Line(s string, most int) string {
	var out []rune
	for _, r := range s {
		if len(out) == most {
			return string(out[:most-1]) + "…"
		}
		if !unicode.IsGraphic(r) {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
