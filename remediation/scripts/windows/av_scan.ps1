# -Do status: can a scan be made? scan: a full one (hours). threats: what was found, and is it still there?
param([string]$Do = 'status')
$ErrorActionPreference = 'SilentlyContinue'
if (Get-Command Start-MpScan) {
    '{"kind":"scanner","name":"Microsoft Defender Antivirus"}'
    if ($Do -eq 'scan') {
        Update-MpSignature
        $failed = $null
        Start-MpScan -ScanType FullScan -ErrorVariable failed
        [ordered]@{ kind = 'scanned'; exit = $failed.Count } | ConvertTo-Json -Compress
    }
    if ($Do -ne 'status') {
        foreach ($threat in Get-MpThreat) {
            $seen = Get-MpThreatDetection -ThreatID $threat.ThreatID | Select-Object -First 1
            [ordered]@{ kind = 'threat'; name = "$($threat.ThreatName)"; path = "$($seen.Resources -join ', ')"
                status = if ($threat.IsActive) { 'active' } else { 'remediated' } } | ConvertTo-Json -Compress
        }
    }
}
'{"kind":"end"}'
