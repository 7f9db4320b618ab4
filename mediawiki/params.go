package mediawiki

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Params are the parameters of an api.php request. A value is a string, a
// number, a bool (true is sent as the empty string, false is left out), nil
// (left out), a [time.Time] (sent in UTC), a [fmt.Stringer], or a slice of
// strings, ints or any of these, which is joined with "|", or with U+001F where
// a value contains "|" (https://www.mediawiki.org/wiki/API:Data_formats).
type Params map[string]any

// encode returns the parameters as the wiki wants them.
func encode(params Params) (url.Values, error) {
	values := make(url.Values, len(params))
	for name, value := range params {
		s, ok, err := format(value)
		if err != nil {
			return nil, fmt.Errorf("mediawiki: parameter %q: %w", name, err)
		}
		if ok {
			values.Set(name, s)
		}
	}
	return values, nil
}

// format returns a value's text, and whether it is sent at all.
func format(value any) (s string, ok bool, err error) {
	switch v := value.(type) {
	case nil:
		return "", false, nil
	case string:
		return v, true, nil
	case bool:
		return "", v, nil
	case int:
		return strconv.Itoa(v), true, nil
	case int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v), true, nil
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 32), true, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true, nil
	case time.Time:
		return v.UTC().Format(time.RFC3339), true, nil
	case fmt.Stringer:
		return v.String(), true, nil
	case []string:
		return join(v), true, nil
	case []int:
		return joinAny(v)
	case []int64:
		return joinAny(v)
	case []any:
		return joinAny(v)
	}
	return "", false, fmt.Errorf("a value of type %T cannot be sent", value)
}

func joinAny[T any](values []T) (string, bool, error) {
	var texts []string
	for _, value := range values {
		s, ok, err := format(value)
		if err != nil {
			return "", false, err
		}
		if ok {
			texts = append(texts, s)
		}
	}
	return join(texts), true, nil
}

// join joins the values of a parameter that takes several.
func join(values []string) string {
	for _, v := range values {
		if strings.Contains(v, "|") {
			return "\x1f" + strings.Join(values, "\x1f")
		}
	}
	return strings.Join(values, "|")
}
