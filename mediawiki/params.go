package mediawiki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"mime/multipart"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Params are the parameters of a request, by name. A value is
//
//   - a string or a number, of any integer or float type,
//   - a bool: true is sent as the empty string, false is left out,
//   - nil, or a nil pointer, which is left out,
//   - a [time.Time], which is sent in UTC, or another [fmt.Stringer],
//   - a slice of these, joined with "|", or with U+001F where a value contains
//     "|" (https://www.mediawiki.org/wiki/API:Data_formats),
//   - a [File], in a POST request.
//
// Anything else is an error that names the parameter.
type Params map[string]any

// A File is a parameter that uploads a file. It is sent as it is read, and not
// held in memory. A request with it can be made again, after a refused token or
// a wait, if Content is an [io.Seeker] and an [io.ReaderAt], such as an
// [os.File] or a [bytes.Reader]: it is sent from where it stands to its end.
type File struct {
	Name    string // as the wiki is told
	Content io.Reader
}

// values are parameters as they are sent.
type values struct {
	texts url.Values
	files map[string]File
}

// encode returns the parameters as api.php wants them.
func encode(params Params) (values, error) {
	v := values{texts: make(url.Values, len(params))}
	for name, value := range params {
		if f, ok := value.(File); ok {
			if f.Content == nil {
				return v, fmt.Errorf("mediawiki: parameter %q: a File without Content", name)
			}
			if v.files == nil {
				v.files = make(map[string]File)
			}
			v.files[name] = f
			continue
		}
		s, ok, err := format(value)
		if err != nil {
			return v, fmt.Errorf("mediawiki: parameter %q: %w", name, err)
		}
		if ok {
			v.texts.Set(name, s)
		}
	}
	return v, nil
}

// format returns a value's text, and whether it is sent at all. It looks at
// kinds, since types of a program's own and slices of those have no other way
// to be told.
func format(value any) (s string, ok bool, err error) {
	switch v := value.(type) {
	case nil:
		return "", false, nil
	case string:
		return v, true, nil
	case time.Time:
		return v.UTC().Format(time.RFC3339), true, nil
	}
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return "", false, nil
	}
	if v, ok := value.(fmt.Stringer); ok {
		return v.String(), true, nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true, nil
	case reflect.Bool:
		return "", v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), true, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), true, nil
	case reflect.Float32, reflect.Float64:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return "", false, fmt.Errorf("%v is no number that a wiki knows", v.Float())
		}
		return strconv.FormatFloat(v.Float(), 'f', -1, v.Type().Bits()), true, nil
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 { // bytes are no list, and whether they are text is not known
			return formatList(v)
		}
	}
	return "", false, fmt.Errorf("a value of type %T cannot be sent", value)
}

// formatList joins the values of a parameter that takes several.
func formatList(list reflect.Value) (string, bool, error) {
	texts, separator := make([]string, 0, list.Len()), "|"
	for i := range list.Len() {
		s, ok, err := format(list.Index(i).Interface())
		switch {
		case err != nil:
			return "", false, err
		case strings.Contains(s, "\x1f"):
			return "", false, errors.New("a value of a list contains U+001F, which separates values")
		case strings.Contains(s, "|"):
			separator = "\x1f"
		}
		if ok {
			texts = append(texts, s)
		}
	}
	joined := strings.Join(texts, separator)
	if separator != "|" {
		joined = separator + joined
	}
	return joined, true, nil
}

// A payload is the body of a request, which can be sent more than once unless
// part of it is a stream.
type payload struct {
	contentType string
	parts       []part
}

// A part has either what can be read again and its place in that, or a stream.
type part struct {
	at           io.ReaderAt
	offset, size int64
	stream       io.Reader
}

func textPayload(contentType, text string) *payload {
	return &payload{contentType, []part{{at: strings.NewReader(text), size: int64(len(text))}}}
}

// body returns the values as a body: a form, with files a multipart one.
func (v *values) body() (*payload, error) {
	if len(v.files) == 0 {
		return textPayload("application/x-www-form-urlencoded", v.texts.Encode()), nil
	}
	var buf bytes.Buffer
	form := multipart.NewWriter(&buf)
	p := &payload{contentType: form.FormDataContentType()}
	cut := func() {
		p.parts = append(p.parts, part{at: bytes.NewReader(bytes.Clone(buf.Bytes())), size: int64(buf.Len())})
		buf.Reset()
	}
	for _, name := range slices.Sorted(maps.Keys(v.texts)) {
		form.WriteField(name, v.texts.Get(name)) // into a buffer: no error
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		form.CreateFormFile(name, v.files[name].Name)
		cut()
		file, err := filePart(v.files[name].Content)
		if err != nil {
			return nil, fmt.Errorf("mediawiki: parameter %q: %w", name, err)
		}
		p.parts = append(p.parts, file)
	}
	form.Close()
	cut()
	return p, nil
}

// filePart returns what is left of a file.
func filePart(r io.Reader) (part, error) {
	at, ok1 := r.(io.ReaderAt)
	seeker, ok2 := r.(io.Seeker)
	if !ok1 || !ok2 {
		return part{stream: r}, nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return part{stream: r}, nil // a pipe, for instance
	}
	end, err := seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return part{}, err
	}
	_, err = seeker.Seek(start, io.SeekStart)
	return part{at: at, offset: start, size: max(0, end-start)}, err
}

// replayable reports whether the body can be sent again.
func (p *payload) replayable() bool {
	return !slices.ContainsFunc(p.parts, func(p part) bool { return p.stream != nil })
}

// length returns the body's length in bytes, -1 if it is not known.
func (p *payload) length() (n int64) {
	for _, part := range p.parts {
		if part.stream != nil {
			return -1
		}
		n += part.size
	}
	return n
}

// open returns the body's bytes.
func (p *payload) open() io.Reader {
	readers := make([]io.Reader, len(p.parts))
	for i, part := range p.parts {
		readers[i] = part.stream
		if part.stream == nil {
			readers[i] = io.NewSectionReader(part.at, part.offset, part.size)
		}
	}
	return io.MultiReader(readers...)
}
