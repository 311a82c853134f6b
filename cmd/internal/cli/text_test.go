package cli

import (
	"math"
	"testing"
)

func TestNumbers(t *testing.T) {
	tests := []struct{ got, want string }{
		{count(0), "0"},
		{count(999), "999"},
		{count(1000), "1,000"},
		{count(-1234567), "-1,234,567"},
		{count(math.MinInt64), "-9,223,372,036,854,775,808"},
		{size(-1), "unknown"},
		{size(0), "0 B"},
		{size(999), "999 B"},
		{size(1000), "1 kB"},
		{size(999_600), "1 MB"},
		{size(4_200_000), "4.2 MB"},
		{size(math.MaxInt64), "9.22e+03 PB"},
		{span(0.01234), "0.0123 s"},
		{span(99.9), "99.9 s"},
		{span(200), "3m20s"},
		{span(math.Inf(1)), "?"},
		{span(math.NaN()), "?"},
		{short("abc"), "abc"},
		{short("0123456789abcdef"), "0123456789ab"},
		{cut("two\nlines\tx"), "two lines x"},
		{cut("0123456789012345678901234567890123456789"), "0123456789012345678901234567890123456789"},
		{cut("01234567890123456789012345678901234567890"), "012345678901234567890123456789012345678…"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
