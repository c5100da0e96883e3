import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import globals from "globals";

export default defineConfig([
	{ ignores: [".venv/", ".matrix/", "build/"] },
	{
		files: ["rtdeliver/**/*.js"],
		extends: [js.configs.recommended],
		languageOptions: { ecmaVersion: 2023, globals: globals.browser },
		linterOptions: { reportUnusedDisableDirectives: "error" },
	},
]);
