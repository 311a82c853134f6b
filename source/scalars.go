package source

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The rules by which values of typed columns become values of [Fields].

// textOf returns a text, which must be UTF-8.
func textOf(b []byte) (any, error) {
	if !utf8.Valid(b) {
		return nil, errNotUTF8
	}
	return string(b), nil
}

// unsignedOf returns an int64, or a float64 beyond its range, as of JSON.
func unsignedOf(u uint64) any {
	if u > math.MaxInt64 {
		return float64(u)
	}
	return int64(u)
}

const (
	dateForm  = "2006-01-02"
	timeForm  = "15:04:05.999999999"
	localForm = dateForm + "T" + timeForm
)

// dateOf returns the text of a number of days since 1970.
func dateOf(days int64) (any, error) {
	if days < -1e7 || days > 1e7 {
		return nil, fmt.Errorf("the date is %d days from 1970", days)
	}
	return writtenTime(time.Unix(days*86400, 0), dateForm)
}

// timestampOf returns the text of a number of parts of a second since 1970;
// perSecond is how many make a second. A point in time has a Z behind it, a
// local time has not.
func timestampOf(v, perSecond int64, point bool) (any, error) {
	seconds, rest := floorDiv(v, perSecond)
	form := localForm
	if point {
		form += "Z"
	}
	return writtenTime(time.Unix(seconds, rest*(1e9/perSecond)), form)
}

func writtenTime(t time.Time, form string) (any, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("the year %d has no form in RFC 3339", y)
	}
	return t.UTC().Format(form), nil
}

// timeOf returns the text of a time of day.
func timeOf(v, perSecond int64) (any, error) {
	if v < 0 || v/perSecond >= 86400 {
		return nil, fmt.Errorf("the time of day is %d of %d a second", v, perSecond)
	}
	return time.Unix(v/perSecond, v%perSecond*(1e9/perSecond)).UTC().Format(timeForm), nil
}

func floorDiv(a, b int64) (q, r int64) {
	q, r = a/b, a%b
	if r < 0 {
		q, r = q-1, r+b
	}
	return q, r
}

// maxDecimal is the size of the largest decimals there are, in bytes.
const maxDecimal = 32

// bigDecimalOf returns the text of a decimal of big-endian two's complement.
func bigDecimalOf(b []byte, scale int) (any, error) {
	if len(b) > maxDecimal {
		return nil, fmt.Errorf("a decimal of %d bytes", len(b))
	}
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return decimalText(n.String(), scale), nil
}

// decimalText puts the point into the digits of a decimal.
func decimalText(digits string, scale int) string {
	if scale <= 0 {
		if digits == "0" {
			return digits
		}
		return digits + strings.Repeat("0", -scale)
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if n := scale + 1 - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	at := len(digits) - scale
	return sign + digits[:at] + "." + digits[at:]
}

// uuidOf returns the usual text of 16 bytes.
func uuidOf(b []byte) any {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// halfOf returns the value of a float of 16 bits.
func halfOf(h uint16) any {
	sign, exponent, fraction := h>>15, int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(fraction, -24)
	case 0x1f:
		f = math.Inf(1)
		if fraction != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+fraction, exponent-25)
	}
	if sign == 1 {
		f = -f
	}
	return f
}

// appendJSON appends a value of [Fields] as JSON: bytes in base64, as
// encoding/json has them.
func appendJSON(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return dst, fmt.Errorf("%v in a list or struct, for which JSON has no form", v)
		}
		text, err := json.Marshal(v)
		return append(dst, text...), err
	case string:
		return appendJSONText(dst, v), nil
	case []byte:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v)
		return append(dst, '"'), nil
	case json.RawMessage:
		return append(dst, v...), nil
	default:
		return dst, fmt.Errorf("%T has no form in JSON", v)
	}
}

// appendJSONText quotes a text that is UTF-8, and escapes only what must be.
func appendJSONText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
	}
	return append(append(dst, s[from:]...), '"')
}
