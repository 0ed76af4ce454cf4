// For `make deploy`, without azd: what differs from the defaults of main.bicep goes here.
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'responder')
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')
param mode = readEnvironmentVariable('RESPONDER_MODE', 'enforce')
param deployment = readEnvironmentVariable('RESPONDER_DEPLOYMENT', 'default')
param signInClientId = readEnvironmentVariable('RESPONDER_SIGN_IN_CLIENT_ID', '')
param notifySecretUri = readEnvironmentVariable('RESPONDER_NOTIFY_SECRET_URI', '')
param operatorAddresses = []
