const tokens = require('nestjs-idp-tokens');

exports.tokens = tokens;
exports.ask = async (app, userId) => {
  const manager = app.get(tokens.TokenManager, { strict: false });
  try {
    return (await manager.getIdpToken(userId, 'github')).accessToken;
  } catch (error) {
    if (error instanceof tokens.TokensError) return error.code;
    throw error;
  }
};
