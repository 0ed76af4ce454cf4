# -Do status: can a scan be made? scan: a full one (hours). threats: what was found, and is it still there?
param([string]$Do = 'status')
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { $null = $_ }
# ThreatStatusID of MSFT_MpThreatDetection
$words = @{ 1 = 'detected'; 2 = 'cleaned'; 3 = 'quarantined'; 4 = 'removed'; 5 = 'allowed'; 6 = 'blocked'; 102 = 'clean failed'
    103 = 'quarantine failed'; 104 = 'remove failed'; 105 = 'allow failed'; 106 = 'abandoned'; 107 = 'block failed' }
if (Get-Command Start-MpScan) {
    '{"kind":"scanner","name":"Microsoft Defender Antivirus"}'
    if ($Do -eq 'scan') {
        Update-MpSignature
        $failed = $null
        Start-MpScan -ScanType FullScan -ErrorVariable failed
        [ordered]@{ kind = 'scanned'; exit = $failed.Count } | ConvertTo-Json -Compress
    }
    if ($Do -ne 'status') {
        $names = @{}
        Get-MpThreat | ForEach-Object { $names["$($_.ThreatID)"] = $_.ThreatName }
        Get-MpThreatDetection | Sort-Object InitialDetectionTime -Descending | Group-Object ThreatID | ForEach-Object {
            $last = $_.Group[0]
            $seen = if ($last.InitialDetectionTime) { $last.InitialDetectionTime.ToUniversalTime().ToString('o') } else { '' }
            $status = $words[[int]$last.ThreatStatusID]
            [ordered]@{ kind = 'threat'; name = "$($names["$($last.ThreatID)"])"; path = "$($last.Resources -join ', ')"; seen = $seen
                status = if ($status) { $status } else { "status $($last.ThreatStatusID)" } } | ConvertTo-Json -Compress
        }
    }
}
'{"kind":"end"}'
