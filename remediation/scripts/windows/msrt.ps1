# Microsoft's Malicious Software Removal Tool. -Do status: is it there, what did it find last? run: a full run,
# which removes what it finds. -Install yes: fetch it from Microsoft first, where it is missing.
param([string]$Do = 'status', [string]$Install = 'no')
$ErrorActionPreference = 'SilentlyContinue'
$tool = Join-Path $env:windir 'System32\mrt.exe'
$log = Join-Path $env:windir 'debug\mrt.log'
if (-not (Test-Path -LiteralPath $tool) -and $Do -eq 'run' -and $Install -eq 'yes') {
    $fetched = Join-Path $env:TEMP 'msrt-fetched.exe'
    Invoke-WebRequest -UseBasicParsing -Uri 'https://go.microsoft.com/fwlink/?LinkId=212732' -OutFile $fetched
    $signature = Get-AuthenticodeSignature -FilePath $fetched
    if ($signature.Status -eq 'Valid' -and $signature.SignerCertificate.Subject -like '*O=Microsoft Corporation*') {
        $tool = $fetched
    } else {
        '{"kind":"refused","why":"what was fetched is not signed by Microsoft"}'
    }
}
$there = Test-Path -LiteralPath $tool
[ordered]@{ kind = 'tool'; there = $there; version = "$((Get-Item -LiteralPath $tool).VersionInfo.ProductVersion)" } | ConvertTo-Json -Compress
if ($there -and $Do -eq 'run') {
    $run = Start-Process -FilePath $tool -ArgumentList '/Q', '/F:Y' -Wait -PassThru
    [ordered]@{ kind = 'ran'; exit = $run.ExitCode } | ConvertTo-Json -Compress
}
Get-Content -LiteralPath $log -Tail 40 | ForEach-Object { [ordered]@{ kind = 'log'; text = $_ } | ConvertTo-Json -Compress }
'{"kind":"end"}'
