{{/* What the gateway's pods have, and those that serve a bundle don't. */}}

{{/*
Where modes, counts and spent money are kept: `database` (PostgreSQL), `volume` (SQLite on a disk of one pod), or
`none`, because without jobs and budgets the gateway keeps nothing.
*/}}
{{- define "tunewright.gateway.store" -}}
{{- with .Values.gateway.settings }}
{{- if .database }}database{{ else if or .jobs .budgets }}volume{{ else }}none{{ end }}
{{- end }}
{{- end }}

{{/* gateway.yaml: the settings of the values, and the paths of what this chart mounts. */}}
{{- define "tunewright.gateway.settings" -}}
{{- $settings := deepCopy .Values.gateway.settings }}
{{- if .Values.auth.keysSecret }}{{ $settings = set $settings "keys" "/etc/tunewright/keys/keys.json" }}{{ end }}
{{- if .Values.captures.enabled }}
{{- $settings = set $settings "capture" (set (default dict $settings.capture) "folder" "/captures") }}
{{- end }}
{{- if eq (include "tunewright.gateway.store" .) "volume" }}
{{- $settings = set $settings "store" "/store/gateway.db" }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- define "tunewright.gateway.strategy" -}}
{{- if eq (include "tunewright.gateway.store" .) "volume" -}}
# Only one pod may write the SQLite file, and only one node mounts its disk.
type: Recreate
{{- else -}}
rollingUpdate:
  maxUnavailable: 0
  maxSurge: 1
{{- end }}
{{- end }}

{{- define "tunewright.gateway.annotations" -}}
# Changed settings start new pods, in place of SIGHUP.
checksum/settings: {{ include "tunewright.gateway.settings" . | sha256sum }}
{{- end }}

{{- define "tunewright.gateway.command" -}}
env:
  - name: TUNEWRIGHT_GATEWAY
    value: /etc/tunewright/gateway/gateway.yaml
{{- with .Values.gateway.secret }}
envFrom:
  - secretRef:
      name: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "tunewright.gateway.mounts" -}}
- name: settings
  mountPath: /etc/tunewright/gateway
  readOnly: true
{{- if .Values.gateway.projectsClaim }}
- name: projects
  mountPath: /data
  readOnly: true
{{- end }}
{{- if eq (include "tunewright.gateway.store" .) "volume" }}
- name: store
  mountPath: /store
{{- end }}
{{- end }}

{{- define "tunewright.gateway.volumes" -}}
- name: settings
  configMap:
    name: {{ .Release.Name }}-settings
{{- with .Values.gateway.projectsClaim }}
- name: projects
  persistentVolumeClaim:
    claimName: {{ . | quote }}
    readOnly: true
{{- end }}
{{- if eq (include "tunewright.gateway.store" .) "volume" }}
- name: store
  persistentVolumeClaim:
    claimName: {{ .Release.Name }}-store
{{- end }}
{{- end }}
