package mediawikitest

import (
	"crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// An upload is a file as it came, but for its content.
type upload struct {
	field, name string
	size        int64
	sha1        string
}

// readMultipart reads the fields of a body into r.PostForm, and goes through a
// file without keeping it.
func readMultipart(r *http.Request) (file *upload, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	r.PostForm = make(url.Values)
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return file, nil
		}
		if err != nil {
			return nil, err
		}
		if part.FileName() == "" {
			value, err := io.ReadAll(io.LimitReader(part, 1<<20))
			if err != nil {
				return nil, err
			}
			r.PostForm.Set(part.FormName(), string(value))
			continue
		}
		sum := sha1.New()
		size, err := io.Copy(sum, part)
		if err != nil {
			return nil, err
		}
		file = &upload{part.FormName(), part.FileName(), size, fmt.Sprintf("%x", sum.Sum(nil))}
	}
}

// upload is action=upload, for whole files.
func (s *Server) upload(r *http.Request, p url.Values, g *grant, file *upload) (object, *apiError) {
	if failure := s.mayWrite(r, p); failure != nil {
		return nil, failure
	}
	name := p.Get("filename")
	switch old := s.files[name]; {
	case g == nil || g.user == "":
		return nil, &apiError{code: "permissiondenied", text: "The action you have requested is limited to users in the group: [[Test Wiki:Users|Users]]."}
	case file == nil || file.field != "file":
		return nil, &apiError{code: "missingparam", text: `One of the parameters "filekey", "file" and "url" is required.`, module: "upload"}
	case name == "":
		return nil, &apiError{code: "missingparam", text: `The "filename" parameter must be set.`, module: "upload"}
	case old != nil && !p.Has("ignorewarnings"):
		return object{"upload": object{"result": "Warning", "warnings": object{"exists": name}, "filename": name}}, nil
	}
	s.files[name] = file
	return object{"upload": object{"result": "Success", "filename": name, "imageinfo": object{"size": file.size, "sha1": file.sha1, "user": g.user}}}, nil
}
