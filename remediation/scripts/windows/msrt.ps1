# Microsoft's Malicious Software Removal Tool. -Do status: is it there, what did it find last? run: a full run, which removes
# what it finds. -Install yes: where it is missing, Microsoft Safety Scanner is fetched in its place (the same engine).
param([string]$Do = 'status', [string]$Install = 'no')
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { $null = $_ }
$name = 'MSRT'
$tool = Join-Path $env:windir 'System32\mrt.exe'
$log = Join-Path $env:windir 'debug\mrt.log'
$folder = $null
if (-not (Test-Path -LiteralPath $tool) -and $Do -eq 'run' -and $Install -eq 'yes') {
    # a folder of its own that nobody but the system and administrators may touch
    $folder = Join-Path $env:windir ('Temp\' + [guid]::NewGuid().ToString('N'))
    New-Item -ItemType Directory -Path $folder | Out-Null
    & icacls.exe $folder /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' | Out-Null
    $fetched = Join-Path $folder 'msert.exe'
    [Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12
    Invoke-WebRequest -UseBasicParsing -Uri 'https://go.microsoft.com/fwlink/?LinkId=212732' -OutFile $fetched
    $signature = Get-AuthenticodeSignature -LiteralPath $fetched
    if (-not (Test-Path -LiteralPath $fetched)) {
        '{"kind":"refused","why":"it could not be fetched from Microsoft"}'
    } elseif ($signature.Status -eq 'Valid' -and $signature.SignerCertificate.Subject -like '*O=Microsoft Corporation*') {
        $tool = $fetched
        $name = 'Microsoft Safety Scanner'
        $log = Join-Path $env:windir 'debug\msert.log'
    } else {
        '{"kind":"refused","why":"what was fetched is not signed by Microsoft"}'
    }
}
$there = Test-Path -LiteralPath $tool
[ordered]@{ kind = 'tool'; name = $name; there = $there; version = "$((Get-Item -LiteralPath $tool).VersionInfo.ProductVersion)" } |
    ConvertTo-Json -Compress
if ($there -and $Do -eq 'run') {
    $run = Start-Process -FilePath $tool -ArgumentList '/Q', '/F:Y' -Wait -PassThru
    [ordered]@{ kind = 'ran'; exit = $run.ExitCode } | ConvertTo-Json -Compress
}
Get-Content -LiteralPath $log -Tail 40 | ForEach-Object { [ordered]@{ kind = 'log'; text = "$_".ToString() } | ConvertTo-Json -Compress }
if ($folder) { Remove-Item -LiteralPath $folder -Recurse -Force }
'{"kind":"end"}'
